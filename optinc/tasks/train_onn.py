"""``task=train_onn``: train an optical neural network and write its artifact."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optinc.callbacks.checkpoints import every_epoch
from optinc.callbacks.progress import progress_bar
from optinc.callbacks.random_state import RandomState
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, WEIGHTS_FILE, save_artifact
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.training.one_switch import ONNTraining
from optinc.runs.summary import write_summary
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import log_files, open_loggers

logger = logging.getLogger(__name__)


def train_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train until every possible input is received right, or the schedule ends.

    The artifact is written in either case, with its true accuracy in the card.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, module and artifact.

    Raises:
        ConfigurationError: If a setting is illegal.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module: ONNTraining = instantiate(cfg.onn_training.module)
    with open_loggers(cfg) as loggers:
        trainer: pl.Trainer = instantiate(
            cfg.onn_training.trainer,
            logger=loggers,
            callbacks=[
                *progress_bar(enabled=cfg.trainer.enable_progress_bar),
                RandomState(),
                every_epoch(cfg.paths.output_dir),
            ],
        )
        start = time.perf_counter()
        trainer.fit(module, ckpt_path=cfg.ckpt_path)
        seconds = time.perf_counter() - start
        if cfg.onn_training.initial is not None:
            seconds += zoo.load_named(cfg.onn_training.initial).card.seconds
        evaluation = module.evaluation
        on_gpu = trainer.strategy.root_device.type != "cpu"
        # The verdict is that of the CPU: a GPU may sum in another order.
        if evaluation is None or not evaluation.exhaustive or on_gpu:
            evaluation = evaluate_exhaustively(module.network.cpu(), module.design.scenario)
        network = module.network.eval()
        onn = save_artifact(
            cfg.onn_training.folder,
            network=network,
            design=module.design,
            evaluation=evaluation,
            seed=cfg.seed,
            epochs=trainer.current_epoch,
            seconds=seconds,
            device=trainer.strategy.root_device,
            command=shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
        )
        card = onn.card
        folder = Path(cfg.onn_training.folder)
        log_files(
            loggers,
            name=f"onn-{card.weights_sha256[:12]}",
            kind="onn",
            files=[folder / WEIGHTS_FILE, folder / CARD_FILE],
        )
        right = card.exhaustive_inputs - card.wrong_inputs
        logger.info(
            "%d of %d inputs right after %d epochs, %.0f s; smallest margin %.3f; "
            "error values %s; %s",
            right,
            card.exhaustive_inputs,
            card.epochs,
            seconds,
            card.smallest_margin,
            card.error_values,
            folder,
        )
        summary = {
            "task": "train_onn",
            "seed": cfg.seed,
            "epochs": card.epochs,
            "accuracy": card.accuracy,
            "exhaustive_inputs": card.exhaustive_inputs,
            "wrong_inputs": card.wrong_inputs,
            "error_values": card.error_values,
            "smallest_margin": card.smallest_margin,
            "area_ratio": card.area_ratio,
            "seconds": seconds,
            "onn": str(folder),
            "onn_sha256": card.weights_sha256,
        }
        write_summary(cfg.paths.output_dir, summary)
    return summary, {"trainer": trainer, "module": module, "onn": onn}
