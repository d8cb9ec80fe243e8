"""``task=tune_cascade``: fine-tune the ONNs of a cascade together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from optinc.errors import ConfigurationError
from optinc.folders import expanded
from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_cascade,
    random_codes,
)
from optinc.onn.artifact import ONNArtifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.training.cascade import CascadeTraining
from optinc.onn.zoo.families import CascadeONNs
from optinc.runs.summary import write_summary
from optinc.tasks.end_of_training import end_of_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import open_loggers
from optinc.tasks.onn_trainer import onn_trainer, trained_seconds
from optinc.tasks.store_onn import store_onn

logger = logging.getLogger(__name__)


def tune_cascade(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train all levels until the cascade receives every input right, or the schedule ends.

    An artifact for each level is written in either case, with its true accuracy in the card.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, module and the ONNs.

    Raises:
        ConfigurationError: If a setting is illegal, or no cascade is chosen.
        MissingONNError, ArtifactError: If a level has no ONN or it is damaged.
        WrongInputsError: If an input of a level or of the cascade is received wrong, after
            everything is written.
    """
    before = _cascade(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = _training(cfg, before)
    first = _evaluate(module, samples=cfg.cascade_tuning.check_samples)
    _log("before", first)
    with open_loggers(cfg) as loggers:
        trainer = onn_trainer(
            cfg, cfg.cascade_tuning.trainer, max_epochs=module.max_epochs, loggers=loggers
        )
        trainer.fit(module, ckpt_path=cfg.ckpt_path)
        seconds = trained_seconds(trainer)
        module.to_cpu()
        module.networks.eval()
        module.evaluate(samples=1, seed=0)
        levels = _store(cfg, before, module, seconds=seconds, loggers=loggers)
        last = _evaluate(module, samples=cfg.cascade_tuning.final_samples)
    _log(f"after {trainer.current_epoch} epochs, {seconds:.0f} s", last)
    logger.info("tuned ONNs are in %s", cfg.cascade_tuning.folder)
    summary = {
        "task": "tune_cascade",
        "seed": cfg.seed,
        "epochs": trainer.current_epoch,
        "before": asdict(first),
        "composed": asdict(last),
        "levels": [
            {"wrong_inputs": onn.card.wrong_inputs, "onn_sha256": onn.card.weights_sha256}
            for onn in levels
        ],
        "seconds": seconds,
        "onns": str(expanded(cfg.cascade_tuning.folder)),
    }
    write_summary(cfg.paths.output_dir, summary)
    end_of_training(
        {f"level {number}": onn.card for number, onn in enumerate(levels, start=1)}
        | {"the cascade": last},
        stored=cfg.cascade_tuning.folder,
        advice="tune longer, with a larger cascade_tuning.max_epochs, or go on from them with "
        f"optinc.topology.onns={cfg.cascade_tuning.folder}",
    )
    return summary, {"trainer": trainer, "module": module, "onns": levels}


def _cascade(cfg: DictConfig) -> CascadeONNs:
    """Load the ONNs to start from.

    Raises:
        ConfigurationError: If no cascade with a different ONN for each level is chosen.
    """
    onns = instantiate(cfg.optinc.onn)
    if not isinstance(onns, CascadeONNs) or len(set(onns.tree.levels)) < len(onns.levels):
        raise ConfigurationError(
            "task=tune_cascade needs optinc/topology=cascade with optinc.topology.level=null and "
            "optinc.topology.quantize=top, whose levels differ"
        )
    return onns


def _training(cfg: DictConfig, before: CascadeONNs) -> CascadeTraining:
    """Build the training, which changes the networks of ``before``."""
    training: CascadeTraining = instantiate(cfg.cascade_tuning.module)(
        tree=before.tree,
        networks=[onn.network for onn in before.levels],
        designs=[_design(onn) for onn in before.levels],
    )
    return training


def _design(onn: ONNArtifact) -> ONNDesign:
    return ONNDesign(onn.card.scenario, onn.card.structure, onn.card.approximated_layers)


def _store(
    cfg: DictConfig,
    before: CascadeONNs,
    module: CascadeTraining,
    *,
    seconds: float,
    loggers: Sequence[Logger],
) -> list[ONNArtifact]:
    """Write the tuned ONN of every level; epochs and seconds include those before the tuning."""
    folder, trainer = expanded(cfg.cascade_tuning.folder), module.trainer
    return [
        store_onn(
            folder / f"level{number}",
            cfg=cfg,
            network=onn.network,
            design=_design(onn),
            evaluation=evaluation,
            epochs=onn.card.epochs + trainer.current_epoch,
            seconds=onn.card.seconds + seconds,
            device=trainer.strategy.root_device,
            loggers=loggers,
        )
        for number, (onn, evaluation) in enumerate(
            zip(before.levels, module.evaluations, strict=True), start=1
        )
    ]


def _evaluate(module: CascadeTraining, *, samples: int) -> Evaluation:
    """Evaluate the cascade on random inputs never trained on, and on all worst cases of carries."""
    tree = module.tree
    batches = chain(random_codes(tree, samples=samples, seed=2**31), carry_chains(tree))
    total = samples + count_carry_chains(tree)
    cascade = AnalogCascade(list(module.networks), tree)
    return evaluate_cascade(cascade, batches, total=total)


def _log(when: str, cascade: Evaluation) -> None:
    logger.info(
        "%s: %d of %d inputs of the cascade wrong, smallest margin %.3f",
        when,
        cascade.wrong_inputs,
        cascade.combinations,
        cascade.smallest_margin,
    )
