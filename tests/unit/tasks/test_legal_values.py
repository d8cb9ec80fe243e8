from __future__ import annotations

from pathlib import Path

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.tasks.legal_values import check_seed, check_trainer
from tests.hydra_jobs import composed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.strategy=ddp", "chosen by strategy=virtual_servers | ddp"),
        ("+trainer.logger=false", "chosen by logger=csv | wandb | null"),
        ("+trainer.enable_checkpointing=true", "chosen by callbacks=default | no_checkpoint"),
        ("trainer.use_distributed_sampler=true", "trainer.use_distributed_sampler must be false"),
        ("trainer.max_epochs=-2", "trainer.max_epochs must be at least 0, or -1"),
        ("trainer.max_steps=-5", "trainer.max_steps must be at least 0, or -1"),
        ("trainer.max_steps=2.5", "trainer.max_steps must be at least 0, or -1"),
        ("trainer.max_epochs=null", "one of trainer.max_epochs and trainer.max_steps"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be"),
        ("+trainer.overfit_batches=-1", "trainer.overfit_batches must be"),
        ("trainer.precision=17", "trainer.precision must be 32-true | "),
        ("trainer.accumulate_grad_batches=0", "must be an integer of at least 1, got 0"),
        ("trainer.log_every_n_steps=-1", "must be an integer of at least 0, got -1"),
        ("trainer.gradient_clip_val=-1", "must be a number of at least 0, got -1"),
        ("trainer.gradient_clip_algorithm=x", "must be norm | value, got x"),
    ],
)
def test_illegal_settings_of_the_trainer_are_refused(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_trainer(composed(tmp_path, override).trainer)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("accelerator", "gpu", "refused"),
    [("cpu", True, True), ("auto", False, True), ("auto", True, False), ("gpu", True, False)],
)
def test_half_precision_needs_a_gpu(
    *, accelerator: str, gpu: bool, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    settings = ["trainer.precision=16-mixed", f"trainer.accelerator={accelerator}"]
    trainer = composed(tmp_path, *settings).trainer
    if not refused:
        check_trainer(trainer)
        return
    with pytest.raises(ConfigurationError, match="needs a GPU"):
        check_trainer(trainer)


def test_seeds_are_those_that_numpy_takes() -> None:
    check_seed(0)
    check_seed(2**32 - 1)
    for seed in (-1, 2**32):
        with pytest.raises(ConfigurationError, match="at least 0 and at most"):
            check_seed(seed)
