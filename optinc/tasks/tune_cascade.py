"""``task=tune_cascade``: fine-tune the ONNs of a cascade together."""

from __future__ import annotations

import logging
import shlex
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optinc.callbacks.checkpoints import every_epoch
from optinc.callbacks.progress import progress_bar
from optinc.callbacks.random_state import RandomState
from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_composed,
    random_codes,
)
from optinc.onn.artifact import CARD_FILE, WEIGHTS_FILE, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.training.cascade import CascadeTraining
from optinc.onn.zoo.families import CascadeONNs
from optinc.runs.summary import write_summary
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import log_files, open_loggers

logger = logging.getLogger(__name__)


def tune_cascade(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train all levels until nothing is wrong together, or the schedule ends.

    An artifact for each level is written in either case, with its true accuracy in the card.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and trainer, module and the ONNs.

    Raises:
        ConfigurationError: If a setting is illegal, or no cascade is chosen.
        MissingONNError, ArtifactError: If a level has no ONN or it is damaged.
    """
    before = instantiate(cfg.optinc.onn)
    if not isinstance(before, CascadeONNs) or len(set(before.tree.levels)) < len(before.levels):
        raise ConfigurationError(
            "task=tune_cascade needs optinc/topology=cascade with optinc.topology.level=null and "
            "optinc.topology.quantize=top: levels that differ"
        )
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    designs = [
        ONNDesign(onn.card.scenario, onn.card.structure, onn.card.approximated_layers)
        for onn in before.levels
    ]
    module: CascadeTraining = instantiate(cfg.cascade_tuning.module)(
        tree=before.tree, networks=[onn.network for onn in before.levels], designs=designs
    )
    first = _evaluate(module, samples=cfg.cascade_tuning.check_samples)
    logger.info(
        "before: %d of %d inputs of the cascade wrong", first.wrong_inputs, first.combinations
    )
    with open_loggers(cfg) as loggers:
        trainer: pl.Trainer = instantiate(
            cfg.cascade_tuning.trainer,
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
        module.networks.cpu().eval()
        module.evaluate(samples=1, seed=0)
        folder = Path(cfg.cascade_tuning.folder)
        levels = []
        for number, (onn, design, evaluation) in enumerate(
            zip(before.levels, designs, module.evaluations, strict=True), start=1
        ):
            tuned = save_artifact(
                folder / f"level{number}",
                network=onn.network,
                design=design,
                evaluation=evaluation,
                seed=cfg.seed,
                epochs=onn.card.epochs + trainer.current_epoch,
                seconds=onn.card.seconds + seconds,
                device=trainer.strategy.root_device,
                command=shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
            )
            levels.append(tuned)
            files = [folder / f"level{number}" / name for name in (WEIGHTS_FILE, CARD_FILE)]
            name = f"onn-{tuned.card.weights_sha256[:12]}"
            log_files(loggers, name=name, kind="onn", files=files)
        last = _evaluate(module, samples=cfg.cascade_tuning.final_samples)
    logger.info(
        "after %d epochs, %.0f s: %d of %d inputs of the cascade wrong, smallest margin %.3f; %s",
        trainer.current_epoch,
        seconds,
        last.wrong_inputs,
        last.combinations,
        last.smallest_margin,
        folder,
    )
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
        "onns": str(folder),
    }
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"trainer": trainer, "module": module, "onns": levels}


def _evaluate(module: CascadeTraining, *, samples: int) -> Evaluation:
    """Evaluate the cascade on random inputs that no training has seen, and on all carries."""
    tree = module.tree
    batches = chain(random_codes(tree, samples=samples, seed=2**31), carry_chains(tree))
    total = samples + count_carry_chains(tree)
    cascade = AnalogCascade(list(module.networks), tree)
    return evaluate_composed(cascade, batches, total=total)
