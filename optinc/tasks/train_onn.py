"""``task=train_onn``: train an optical neural network and write its artifact."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from optinc.folders import expanded
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.design import LARGE
from optinc.onn.evaluation import Evaluation, evaluate_exhaustively
from optinc.onn.training.drawn_chips import FreshChips
from optinc.onn.training.evaluated import EvaluatedTraining
from optinc.onn.training.one_switch import ONNTraining
from optinc.runs.summary import write_summary
from optinc.tasks.end_of_training import end_of_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import open_loggers
from optinc.tasks.onn_trainer import onn_trainer, trained_seconds
from optinc.tasks.store_onn import store_onn

logger = logging.getLogger(__name__)

CHIPS = 10
"""Chips that an ONN trained through drawn chips is evaluated on; one in large scenarios."""


def train_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train until every possible input is received right, or the schedule ends.

    The artifact is written in either case, with its true accuracy in the card.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, module and artifact.

    Raises:
        ConfigurationError: If a setting is illegal.
        WrongInputsError: If an input is received wrong, after everything is written.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module: EvaluatedTraining = instantiate(cfg.onn_training.module)
    folder = expanded(cfg.onn_training.folder)
    with open_loggers(cfg) as loggers:
        trainer = onn_trainer(
            cfg, cfg.onn_training.trainer, max_epochs=module.max_epochs, loggers=loggers
        )
        trainer.fit(module, ckpt_path=cfg.ckpt_path)
        seconds = trained_seconds(trainer)
        if cfg.onn_training.initial is not None:
            seconds += zoo.load_named(cfg.onn_training.initial).card.seconds
        device = trainer.strategy.root_device
        onn = store_onn(
            folder,
            cfg=cfg,
            evaluation=_evaluation(module, device, resumed=cfg.ckpt_path is not None),
            network=module.network.eval(),
            design=module.design,
            epochs=trainer.current_epoch,
            seconds=seconds,
            device=device,
            loggers=loggers,
        )
        steps = module.steps_taken
        _log(onn.card, folder, steps=steps, seconds=seconds)
        summary = _summary(onn.card, folder, seed=cfg.seed, steps=steps, seconds=seconds)
        if isinstance(module, ONNTraining) and module.drawn is not None:
            summary |= _on_chips(onn, module.drawn)
        write_summary(cfg.paths.output_dir, summary)
    by_steps = "max_steps" in cfg.onn_training
    longer = f"max_steps={2 * steps}" if by_steps else f"max_epochs={2 * onn.card.epochs}"
    end_of_training(
        {"the ONN": onn.card},
        stored=folder,
        advice=f"train longer, such as onn_training.{longer}, with a wider "
        f"optinc.mesh.hidden, or go on from it with onn_training.initial={folder}",
    )
    return summary, {"trainer": trainer, "module": module, "onn": onn}


def _evaluation(module: EvaluatedTraining, device: torch.device, *, resumed: bool) -> Evaluation:
    """Return the evaluation of all inputs on this machine's CPU; a GPU may sum in another order."""
    evaluation = module.evaluation
    here = device.type == "cpu" and not resumed
    if evaluation is not None and evaluation.exhaustive and here:
        return evaluation
    module.to_cpu()
    return evaluate_exhaustively(module.network, module.design.scenario)


def _on_chips(onn: ONNArtifact, drawn: FreshChips) -> dict[str, Any]:
    """Return what chips that the training has not seen receive right, noise included."""
    chips = CHIPS if onn.card.scenario.combinations <= LARGE else 1
    right_C = chip_accuracy(ChipNetwork.draw(onn, drawn.evaluated, chips=chips))
    logger.info(
        "%d chips of optinc.chip that were not trained on receive %.3f %% of all inputs right, "
        "the worst %.3f %%",
        chips,
        100 * float(right_C.mean()),
        100 * float(right_C.min()),
    )
    return {
        "chips": chips,
        "chip_accuracy": float(right_C.mean()),
        "worst_chip_accuracy": float(right_C.min()),
    }


def _log(card: ONNCard, folder: Path, *, steps: int, seconds: float) -> None:
    logger.info(
        "%d of %d inputs right after %d steps (%d epochs), %.0f s; smallest margin %.3f; "
        "error values %s; %s",
        card.exhaustive_inputs - card.wrong_inputs,
        card.exhaustive_inputs,
        steps,
        card.epochs,
        seconds,
        card.smallest_margin,
        card.error_values,
        folder,
    )


def _summary(
    card: ONNCard, folder: Path, *, seed: int, steps: int, seconds: float
) -> dict[str, Any]:
    return {
        "task": "train_onn",
        "seed": seed,
        "epochs": card.epochs,
        "steps": steps,
        "accuracy": card.accuracy,
        "exhaustive_inputs": card.exhaustive_inputs,
        "wrong_inputs": card.wrong_inputs,
        "error_values": card.error_values,
        "smallest_margin": card.smallest_margin,
        "structure": list(card.structure),
        "mzi_count": card.mzi_count,
        "area_ratio": card.area_ratio,
        "seconds": seconds,
        "onn": str(folder),
        "onn_sha256": card.weights_sha256,
    }
