from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.models.llama import LlamaLanguageModel
from optinc.models.schedules import one_cycle

OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3)
SCHEDULER = partial(one_cycle, max_lr=1e-3)


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


def test_the_paper_s_llama_has_8_layers_of_384() -> None:
    model = llama(layers=8, hidden_size=384, heads=8, intermediate_size=1024)
    parameters = sum(p.numel() for p in model.parameters())
    per_layer = 4 * 384**2 + 3 * 384 * 1024 + 2 * 384
    assert parameters == 8 * per_layer + 2 * 256 * 384 + 384


def test_an_untrained_language_model_knows_nothing() -> None:
    torch.manual_seed(0)
    loss = llama()(torch.randint(0, 256, (4, 16)))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(256.0)).item(), abs=0.2)


def test_heads_must_divide_the_hidden_size() -> None:
    message = "model.heads=5 must divide model.hidden_size=32"
    with pytest.raises(ConfigurationError, match=message):
        llama(heads=5)
