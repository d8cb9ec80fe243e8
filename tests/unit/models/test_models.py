from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.models.llama import LlamaLanguageModel
from optinc.models.resnet import ResNetClassifier
from optinc.models.schedules import one_cycle, warmup_cosine

OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3)
SCHEDULER = partial(one_cycle, max_lr=1e-3)


def resnet(**changes: Any) -> ResNetClassifier:
    settings = {"num_classes": 7, "depth": 18, "stem": "imagenet", "label_smoothing": 0.0}
    return ResNetClassifier(optimizer=OPTIMIZER, scheduler=SCHEDULER, **(settings | changes))


def llama(**changes: Any) -> LlamaLanguageModel:
    settings = {
        "vocab_size": 256,
        "sequence_length": 16,
        "layers": 2,
        "hidden_size": 32,
        "heads": 4,
        "intermediate_size": 64,
        "attention_dropout": 0.0,
    }
    return LlamaLanguageModel(optimizer=OPTIMIZER, scheduler=SCHEDULER, **(settings | changes))


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 1), ("cifar", 4)])
def test_the_cifar_stem_keeps_the_resolution(stem: str, size: int) -> None:
    model = resnet(stem=stem).eval()
    features = {}
    model.network.layer4.register_forward_hook(
        lambda module, inputs, output: features.update(shape=output.shape)
    )
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert features["shape"][-2:] == (size, size)


def test_resnet50_has_its_parameters_and_dead_residuals() -> None:
    model = resnet(depth=50, num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 23_528_522
    assert (model.network.layer1[0].bn3.weight == 0).all()


def test_the_paper_s_llama_has_8_layers_of_384() -> None:
    model = llama(layers=8, hidden_size=384, heads=8, intermediate_size=1024)
    parameters = sum(p.numel() for p in model.parameters())
    per_layer = 4 * 384**2 + 3 * 384 * 1024 + 2 * 384
    assert parameters == 8 * per_layer + 2 * 256 * 384 + 384


def test_an_untrained_language_model_knows_nothing() -> None:
    torch.manual_seed(0)
    loss = llama()(torch.randint(0, 256, (4, 16)))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(256.0)).item(), abs=0.2)


def test_schedules_warm_up_and_end_near_zero() -> None:
    for make in (SCHEDULER, partial(warmup_cosine, warmup_fraction=0.1)):
        optimizer = OPTIMIZER([torch.nn.Parameter(torch.zeros(1))])
        schedule = make(optimizer, total_steps=100)
        rates = []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step() if len(rates) < 100 else None
        assert rates[0] < 0.1e-3
        assert max(rates) == pytest.approx(1e-3)
        assert rates[-1] < 1e-5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(depth=20), "model.depth must be one of 18, 34, 50, got 20"),
        (lambda: resnet(stem="small"), r"model.stem must be imagenet \| cifar"),
        (lambda: llama(heads=5), "model.heads=5 must divide model.hidden_size=32"),
        (
            lambda: warmup_cosine(
                OPTIMIZER([torch.nn.Parameter(torch.zeros(1))]),
                total_steps=10,
                warmup_fraction=1.0,
            ),
            "model.scheduler.warmup_fraction must be",
        ),
    ],
)
def test_illegal_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
