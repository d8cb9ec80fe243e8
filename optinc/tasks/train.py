"""``task=train``: train a network whose gradients a reducer averages."""

from __future__ import annotations

import json
import time
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
from optinc.data.base import OptINCDataModule
from optinc.models.base import OptINCModel
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.runs.summary import weights_sha256, write_summary
from optinc.tasks.config import validate_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import log_files, open_loggers
from optinc.tasks.modality import CHOICES, check_modality


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
    # Before data and loggers: what cannot be is refused while nothing has been written.
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    reducer: Reducer = instantiate(cfg.reducer)
    if cfg.choices.strategy == "ddp":
        # Before processes are started: what cannot be connected is known already.
        reducer.connect(cfg.trainer.devices * cfg.trainer.num_nodes)
    datamodule: OptINCDataModule = instantiate(cfg.data)
    datamodule.servers = reducer.servers
    check_modality(cfg, datamodule)
    datamodule.prepare_data()
    # Not earlier: initial weights must not depend on what reducers and data sets drew before.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    model: OptINCModel = instantiate(cfg.model, **datamodule.model_arguments)
    history = ValidationHistory()
    with open_loggers(cfg) as loggers:
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
        _log_cards(cfg, reducer, loggers)
        start = time.perf_counter()
        trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path)
        seconds = time.perf_counter() - start
        if history.step != trainer.global_step:
            # The last step did not fall on a validation.
            trainer.validate(model, datamodule=datamodule, verbose=False)
        summary = {
            "task": "train",
            **{key: cfg.choices.get(key) for key in CHOICES},
            "scale": cfg.scale,
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


def _log_cards(cfg: DictConfig, reducer: Reducer, loggers: list[Logger]) -> None:
    """Keep the cards of the ONNs in use with the run, those of a cascade by their level."""
    cards = reducer.switch.cards if isinstance(reducer, OptINCReducer) else ()
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    for number, card in enumerate(cards, start=1):
        name = "onn_card.json" if len(cards) == 1 else f"onn_card_level{number}.json"
        path = Path(cfg.paths.output_dir) / name
        path.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
        log_files(loggers, name=f"onn-{card.weights_sha256[:12]}", kind="onn", files=[path])
