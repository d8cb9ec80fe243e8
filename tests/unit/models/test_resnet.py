from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.models.resnet import ResNetClassifier
from optinc.models.schedules import one_cycle

OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3)
SCHEDULER = partial(one_cycle, max_lr=1e-3)


def resnet(**changes: Any) -> ResNetClassifier:
    settings = {"num_classes": 7, "depth": 18, "stem": "imagenet", "label_smoothing": 0.0}
    return ResNetClassifier(optimizer=OPTIMIZER, scheduler=SCHEDULER, **(settings | changes))


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 20}, "model.depth must be one of 18, 34, 50, got 20"),
        ({"stem": "small"}, r"model.stem must be imagenet \| cifar"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        resnet(**settings)
