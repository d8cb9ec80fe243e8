"""One run: check the configuration, then call its task.

Apart from :mod:`optinc.tasks.main`, since its checks import torch and Lightning: seconds.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from optinc.runs import locks
from optinc.runs.checkpoints import check_checkpoint
from optinc.runs.output_folder import check_output
from optinc.runs.processes import process_rank
from optinc.runs.resume import finished_before, newest_good_checkpoint, resumes_by_itself
from optinc.runs.summary import SUMMARY_FILE
from optinc.tasks.prepared import prepare

logger = logging.getLogger(__name__)

LISTS = ("list_onns",)
"""Tasks that build nothing of the configuration, and check by themselves what they read."""

RESUMABLE = ("train", "train_onn", "tune_cascade")
"""Tasks that go on from a checkpoint."""

# The CSV logger finds Hydra's files in the run's folder; it would delete metrics.csv only.
warnings.filterwarnings("ignore", message="Experiment logs directory")
# Raised inside Lightning, by its use of torch's pytree.
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
# Resuming goes on in the same folder ...
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
# ... or in one of its own.
warnings.filterwarnings("ignore", message="The dirpath has changed")
# The loggers see epochs, not steps, of an ONN's training.
warnings.filterwarnings("ignore", message="The number of training batches")


def one_run(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the configuration and run its task.

    Args:
        cfg: The composed configuration.

    Returns:
        The metrics written to ``summary.json``, and the objects that were built.

    Raises:
        OptINCError: If a setting is illegal or something it names is missing.
    """
    cfg = prepare(cfg)
    if cfg.choices.task not in LISTS:
        from optinc.tasks.config import validate  # noqa: PLC0415  (imports every class it checks)

        validate(cfg)
    folder = cfg.paths.output_dir
    check_output(folder)
    # The other processes of a run use the folder that its first one holds.
    with locks.in_use(folder) if process_rank() == 0 else nullcontext():
        if resumes_by_itself(cfg) and cfg.choices.task in RESUMABLE:
            _continue(cfg)
            done = finished_before(cfg)
            if done is not None:
                logger.warning("%s holds this run, finished: nothing is left to do", folder)
                return done, {}
        elif cfg.ckpt_path is not None:
            check_checkpoint(cfg.ckpt_path)
        _announce_replacement(cfg)
        task = hydra.utils.get_method(cfg.task._target_)
        metrics, objects = task(cfg)
    return metrics, objects


def _continue(cfg: DictConfig) -> None:
    """Let a run that resumes by itself go on from the newest good checkpoint of its folder."""
    newest = newest_good_checkpoint(cfg)
    if newest is not None:
        cfg.ckpt_path = str(newest)
    elif cfg.ckpt_path is not None:
        check_checkpoint(cfg.ckpt_path)
    logger.warning(
        "resume=%s: %s",
        cfg.resume,
        f"going on from {cfg.ckpt_path}" if cfg.ckpt_path else "no checkpoint yet, a new training",
    )


def _announce_replacement(cfg: DictConfig) -> None:
    """Say that a finished run is replaced, and let no summary stand beside another run's files."""
    summary = Path(cfg.paths.output_dir) / SUMMARY_FILE
    if summary.is_file() and process_rank() == 0:
        if cfg.ckpt_path is None:
            logger.warning("%s holds a finished run, which this one replaces", summary.parent)
        summary.unlink()
