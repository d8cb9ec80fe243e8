from __future__ import annotations

import pytorch_lightning as pl
import torch

from optinc.callbacks.random_state import RandomState


def test_the_state_is_restored_at_the_first_batch_only() -> None:
    trainer, module = pl.Trainer(logger=False, enable_checkpointing=False), pl.LightningModule()
    saved = RandomState().state_dict()
    expected = torch.rand(3)
    callback = RandomState()
    callback.load_state_dict(saved)
    torch.rand(5)
    callback.on_train_batch_start(trainer, module, None, 0)
    assert torch.equal(torch.rand(3), expected)
    callback.on_train_batch_start(trainer, module, None, 1)
    assert not torch.equal(torch.rand(3), expected)
