"""ONN artifacts of a task: written with the seed and command of the run, and logged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from optinc.commands import run_command
from optinc.onn.artifact import CARD_FILE, WEIGHTS_FILE, ONNArtifact, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.tasks.loggers import log_files

logger = logging.getLogger(__name__)


def store_onn(
    folder: Path,
    *,
    cfg: DictConfig,
    network: OpticalNetwork,
    design: ONNDesign,
    evaluation: Evaluation,
    seconds: float,
    epochs: int = 0,
    device: torch.device | None = None,
    loggers: Sequence[Logger] = (),
    imported_sha256: str | None = None,
) -> ONNArtifact:
    """Write an ONN, log its files, and read it back.

    Args:
        folder: Folder of the artifact, created if missing.
        cfg: The composed configuration, for the seed.
        network: The network, its approximated layers already projected.
        design: Scenario, structure and approximated layers.
        evaluation: Evaluation of exactly these weights.
        seconds: Wall time of the training or construction.
        epochs: Epochs trained, 0 for a construction.
        device: Device of the training; None for the CPU.
        loggers: Loggers of a run that has not ended.
        imported_sha256: SHA-256 of weights that were trained elsewhere, else None.
    """
    onn = save_artifact(
        folder,
        network=network,
        design=design,
        evaluation=evaluation,
        seed=cfg.seed,
        epochs=epochs,
        seconds=seconds,
        device=torch.device("cpu") if device is None else device,
        command=run_command(HydraConfig.get().overrides.task),
        imported_sha256=imported_sha256,
    )
    log_files(
        loggers,
        name=f"onn-{onn.card.weights_sha256[:12]}",
        kind="onn",
        files=[folder / WEIGHTS_FILE, folder / CARD_FILE],
    )
    return onn


def describe_stored(onn: ONNArtifact, folder: Path, *, task: str) -> dict[str, Any]:
    """Log what an untrained ONN of a task is, and return the content of ``summary.json``.

    Args:
        onn: The ONN, constructed or imported.
        folder: Where it is stored.
        task: Name of the task.
    """
    card = onn.card
    logger.info(
        "%s: %d of %d evaluated inputs right, of %d possible; %d MZIs; %s",
        "-".join(str(width) for width in card.structure),
        card.evaluated_inputs - card.wrong_inputs,
        card.evaluated_inputs,
        card.exhaustive_inputs,
        card.mzi_count,
        folder,
    )
    return {
        "task": task,
        "structure": list(card.structure),
        "accuracy": card.accuracy,
        "exhaustive_inputs": card.exhaustive_inputs,
        "evaluated_inputs": card.evaluated_inputs,
        "wrong_inputs": card.wrong_inputs,
        "smallest_margin": card.smallest_margin,
        "mzi_count": card.mzi_count,
        "built_mzi_count": onn.parts.built_mzis,
        "onn": str(folder),
        "onn_sha256": card.weights_sha256,
    }
