"""``task=train``: train a network whose gradients a reducer averages."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor
from pytorch_lightning.loggers import Logger

import optinc
from optinc.callbacks.checkpoints import RunCheckpoint
from optinc.callbacks.model_size import ModelSize
from optinc.callbacks.progress import progress_bar
from optinc.callbacks.random_state import RandomState
from optinc.callbacks.training_settings import TrainingSettings
from optinc.callbacks.training_time import TrainingTime
from optinc.callbacks.validation_history import ValidationHistory
from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.mixed_bits import MixedBitsReducer
from optinc.reducers.optinc import OptINCReducer
from optinc.runs.differing_settings import training_settings
from optinc.runs.provenance import provenance
from optinc.runs.resume import check_resume
from optinc.runs.summary import chosen_options, weights_sha256, write_summary
from optinc.tasks.config import validate_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import log_files, open_loggers
from optinc.tasks.model_and_data import check_weights, model_and_data

logger = logging.getLogger(__name__)


def train(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, and write ``metrics.csv`` and ``summary.json``.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, model, datamodule and reducer.

    Raises:
        ConfigurationError: If settings are illegal or do not fit together, or no step was taken
            although some were asked for.
        MissingONNError, ArtifactError, DatasetNotFoundError: Before the training starts.
    """
    validate_training(cfg)
    # Before data and loggers: illegal settings are refused while nothing has been written.
    checkpoint = check_resume(cfg)
    callbacks = _callbacks(cfg)
    reducer = _connected_reducer(cfg)
    model, datamodule = model_and_data(cfg, servers=reducer.servers)
    if checkpoint is not None:
        check_weights(model, checkpoint["state_dict"], cfg)
    datamodule.shuffle = not cfg.trainer.get("overfit_batches")
    history, time = ValidationHistory(), TrainingTime()
    with open_loggers(cfg) as loggers:
        trainer = _trainer(cfg, reducer, loggers=loggers, callbacks=[*callbacks, history, time])
        _log_cards(cfg, reducer, loggers)
        _warn_of_emulated_bf16(trainer)
        made = provenance(trainer.strategy.root_device)
        trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path)
        if trainer.global_step <= (0 if checkpoint is None else checkpoint["global_step"]):
            if 0 not in (cfg.trainer.max_steps, cfg.trainer.max_epochs):
                raise ConfigurationError(_why_no_step(cfg, trainer, reducer))
            logger.warning(
                "nothing is trained (trainer.max_steps=%s, trainer.max_epochs=%s): the values are "
                "those of the initial weights",
                cfg.trainer.max_steps,
                cfg.trainer.max_epochs,
            )
        _warn_of_fewer_steps(trainer)
        if history.step != trainer.global_step:
            # The last step did not fall on a validation.
            trainer.validate(model, datamodule=datamodule, verbose=False)
            for callback in callbacks:
                if isinstance(callback, RunCheckpoint):
                    callback.on_last_validation(trainer)
        summary = {
            "task": "train",
            **chosen_options(cfg),
            **reducer.describe(),
            "bits": cfg.optinc.bits,
            "servers": reducer.servers,
            "seed": cfg.seed,
            "precision": trainer.precision,
            "steps": trainer.global_step,
            **history.summary(),
            "seconds": time.seconds,
            **reducer.accounting.summary(),
            "weights_sha256": weights_sha256(model),
            "version": optinc.__version__,
            **made,
        }
        if trainer.is_global_zero:
            write_summary(cfg.paths.output_dir, summary)
    objects = {"trainer": trainer, "model": model, "datamodule": datamodule, "reducer": reducer}
    return summary, objects


def _warn_of_fewer_steps(trainer: pl.Trainer) -> None:
    # The steps that were asked for would be looked for in vain: epochs have a limit by default.
    steps, epochs = trainer.max_steps, trainer.max_epochs
    over = epochs not in (None, -1) and trainer.current_epoch >= epochs
    if over and steps not in (None, -1) and trainer.global_step < steps:
        logger.warning(
            "trainer.max_epochs=%s ended the training at step %d of trainer.max_steps=%d; "
            "trainer.max_epochs=-1 trains for all of them",
            epochs,
            trainer.global_step,
            steps,
        )


def _warn_of_emulated_bf16(trainer: pl.Trainer) -> None:
    # Slower than fp32, which nothing else tells.
    emulated = torch.backends.cpu.get_cpu_capability() == "AVX2"
    if emulated and trainer.strategy.root_device.type == "cpu" and "bf16" in trainer.precision:
        logger.warning(
            "trainer.precision=%s: this CPU has no bfloat16 arithmetic, and emulates it slowly; "
            "trainer.precision=32-true may be several times faster",
            trainer.precision,
        )


def _callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """Build the callbacks of the configuration; those that need a logger only if there is one."""
    built: list[pl.Callback] = [
        instantiate(node) for node in (cfg.callbacks or {}).values() if node is not None
    ]
    return [each for each in built if cfg.logger or not isinstance(each, LearningRateMonitor)]


def _why_no_step(cfg: DictConfig, trainer: pl.Trainer, reducer: Reducer) -> str:
    """Return the line that refuses a training which has taken no step."""
    if trainer.num_training_batches == 0:
        return (
            f"no step was taken: the training set of data={cfg.choices.data} is smaller than a "
            f"batch with a sample for each of {reducer.servers} servers, or "
            "trainer.limit_train_batches takes none of it"
        )
    return (
        "no step was taken: trainer.max_steps, max_epochs or max_time ends the training before its "
        "first step"
    )


def _connected_reducer(cfg: DictConfig) -> Reducer:
    """Build the reducer.

    Raises:
        ConfigurationError: If it cannot serve the processes of ``strategy=ddp``.
    """
    reducer: Reducer = instantiate(cfg.reducer)
    if cfg.choices.strategy == "ddp":
        # Here, not in the strategy, so that an error comes before any process is started.
        reducer.connect(cfg.trainer.devices * cfg.trainer.num_nodes)
    return reducer


def _trainer(
    cfg: DictConfig,
    reducer: Reducer,
    *,
    loggers: list[Logger],
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """Build the trainer, with these callbacks and those of every training."""
    settings = cfg.trainer.copy()
    overfit = OmegaConf.select(settings, "overfit_batches")
    if overfit:
        # Lightning would replace our sampler, which yields whole batches, by one of single samples.
        settings.update(limit_train_batches=overfit, limit_val_batches=overfit, overfit_batches=0)
    size = [ModelSize()] if settings.enable_model_summary else []
    settings.enable_model_summary = False
    trainer: pl.Trainer = instantiate(
        settings,
        strategy=instantiate(cfg.strategy, reducer=reducer),
        logger=loggers,
        callbacks=[
            *callbacks,
            *progress_bar(enabled=cfg.trainer.enable_progress_bar),
            *size,
            RandomState(),
            TrainingSettings(training_settings(cfg)),
        ],
        # Otherwise Lightning adds a ModelCheckpoint of its own to callbacks=no_checkpoint.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
    )
    return trainer


def _log_cards(cfg: DictConfig, reducer: Reducer, loggers: Sequence[Logger]) -> None:
    """Write the cards of the ONNs in use into the run's folder, and log them."""
    switches = [reducer.switch] if isinstance(reducer, OptINCReducer) else []
    if isinstance(reducer, MixedBitsReducer):
        switches = [reducer.coarse.switch, reducer.fine.switch]
    cards = [card for switch in switches for card in switch.cards]
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    for number, card in enumerate(cards, start=1):
        name = "onn_card.json" if len(cards) == 1 else f"onn_card_level{number}.json"
        path = Path(cfg.paths.output_dir) / name
        path.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
        log_files(loggers, name=f"onn-{card.weights_sha256[:12]}", kind="onn", files=[path])
