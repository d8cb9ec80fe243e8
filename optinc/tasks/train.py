"""``task=train``: train a network whose gradients a reducer averages."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger

from optinc.callbacks.progress import progress_bar
from optinc.callbacks.random_state import RandomState
from optinc.callbacks.validation_history import ValidationHistory
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.runs.summary import chosen_options, weights_sha256, write_summary
from optinc.tasks.config import validate_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import log_files, open_loggers
from optinc.tasks.model_and_data import model_and_data


def train(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, and write ``metrics.csv`` and ``summary.json``.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, model, datamodule and reducer.

    Raises:
        ConfigurationError: If settings are illegal or do not fit together.
        MissingONNError, ArtifactError, DatasetNotFoundError: Before the training starts.
    """
    validate_training(cfg)
    # Before data and loggers: illegal settings are refused while nothing has been written.
    callbacks: list[pl.Callback] = [instantiate(node) for node in cfg.callbacks.values()]
    reducer = _connected_reducer(cfg)
    model, datamodule = model_and_data(cfg, servers=reducer.servers)
    history = ValidationHistory()
    with open_loggers(cfg) as loggers:
        trainer = _trainer(cfg, reducer, loggers=loggers, callbacks=callbacks, history=history)
        _log_cards(cfg, reducer, loggers)
        start = time.perf_counter()
        trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path)
        seconds = time.perf_counter() - start
        if history.step != trainer.global_step:
            # The last step did not fall on a validation.
            trainer.validate(model, datamodule=datamodule, verbose=False)
        summary = {
            "task": "train",
            **chosen_options(cfg),
            **reducer.describe(),
            "bits": cfg.optinc.bits,
            "servers": reducer.servers,
            "seed": cfg.seed,
            "steps": trainer.global_step,
            **history.summary(),
            "seconds": seconds,
            **reducer.accounting.summary(),
            "weights_sha256": weights_sha256(model),
        }
        if trainer.is_global_zero:
            write_summary(cfg.paths.output_dir, summary)
    objects = {"trainer": trainer, "model": model, "datamodule": datamodule, "reducer": reducer}
    return summary, objects


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
    history: ValidationHistory,
) -> pl.Trainer:
    """Build the trainer, with the callbacks of the configuration and those of every training."""
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        strategy=instantiate(cfg.strategy, reducer=reducer),
        logger=loggers,
        callbacks=[
            *callbacks,
            *progress_bar(enabled=cfg.trainer.enable_progress_bar),
            RandomState(),
            history,
        ],
        # Otherwise Lightning adds a ModelCheckpoint of its own to callbacks=no_checkpoint.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
    )
    return trainer


def _log_cards(cfg: DictConfig, reducer: Reducer, loggers: Sequence[Logger]) -> None:
    """Write the cards of the ONNs in use into the run's folder, and log them."""
    cards = reducer.switch.cards if isinstance(reducer, OptINCReducer) else ()
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    for number, card in enumerate(cards, start=1):
        name = "onn_card.json" if len(cards) == 1 else f"onn_card_level{number}.json"
        path = Path(cfg.paths.output_dir) / name
        path.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
        log_files(loggers, name=f"onn-{card.weights_sha256[:12]}", kind="onn", files=[path])
