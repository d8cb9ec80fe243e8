"""Legal values of settings that classes would refuse late, or accept and ignore."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from optinc.errors import ConfigurationError

LARGEST_SEED = 2**32 - 1

TRAINER_FROM_ELSEWHERE = {
    "strategy": "strategy=virtual_servers | ddp",
    "logger": "logger=csv | wandb | null",
    "enable_checkpointing": "callbacks=default | no_checkpoint",
    "callbacks": "callbacks.NAME._target_=CLASS",
}
"""Arguments of the trainer that a task gives it, and the settings that choose them."""

PRECISIONS = (
    *("32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    *("32", "64", "16", "bf16"),
)


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy and torch do not take.

    Raises:
        ConfigurationError: Names the legal values.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigurationError(f"seed must be at least 0 and at most 2^32 - 1, got {seed}")


def check_trainer(trainer: DictConfig) -> None:
    """Refuse settings of the trainer of ``task=train`` that are ignored, illegal or train nothing.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    for name, setting in TRAINER_FROM_ELSEWHERE.items():
        if name in trainer:
            raise ConfigurationError(f"trainer.{name} is not read; it is chosen by {setting}")
    if trainer.use_distributed_sampler:
        raise ConfigurationError(
            "trainer.use_distributed_sampler must be false: the data modules share every batch "
            "out among the servers themselves"
        )
    _check_length(trainer)
    _check_precision(trainer)
    _check_number(trainer, "accumulate_grad_batches", at_least=1)
    _check_number(trainer, "log_every_n_steps", at_least=0)
    if trainer.gradient_clip_val is not None:
        _check_number(trainer, "gradient_clip_val", at_least=0, whole=False)
    _check_choice(trainer, "gradient_clip_algorithm", ("norm", "value"))


def _check_length(trainer: DictConfig) -> None:
    for name in ("max_epochs", "max_steps"):
        value = trainer[name]
        if value is not None and not (_is_whole(value) and value >= -1):
            raise ConfigurationError(
                f"trainer.{name} must be at least 0, or -1 for no limit, got {value}"
            )
    if trainer.max_epochs in (None, -1) and trainer.max_steps in (None, -1):
        raise ConfigurationError("one of trainer.max_epochs and trainer.max_steps must not be -1")
    for name in ("limit_train_batches", "overfit_batches"):
        value = trainer.get(name)
        illegal = (
            not _is_number(value) or value < 0 or (name == "limit_train_batches" and not value)
        )
        if value is not None and illegal:
            raise ConfigurationError(
                f"trainer.{name} must be a number of batches or a share above 0, got {value}"
            )


def _check_precision(trainer: DictConfig) -> None:
    _check_choice(trainer, "precision", PRECISIONS)
    on_cpu = trainer.accelerator == "cpu" or (
        trainer.accelerator == "auto" and not torch.accelerator.is_available()
    )
    if on_cpu and str(trainer.precision) in ("16-mixed", "16"):
        raise ConfigurationError(
            f"trainer.precision={trainer.precision} needs a GPU: Lightning would silently train "
            "with bf16-mixed on this CPU, which trainer.precision=bf16-mixed asks for"
        )


def _check_choice(trainer: DictConfig, name: str, legal: Sequence[str]) -> None:
    if str(trainer[name]) not in legal:
        raise ConfigurationError(f"trainer.{name} must be {' | '.join(legal)}, got {trainer[name]}")


def _check_number(trainer: DictConfig, name: str, *, at_least: int, whole: bool = True) -> None:
    value = trainer[name]
    if not (_is_whole(value) if whole else _is_number(value)) or value < at_least:
        kind = "an integer" if whole else "a number"
        raise ConfigurationError(
            f"trainer.{name} must be {kind} of at least {at_least}, got {value}"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
