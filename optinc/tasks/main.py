"""The entry point behind ``run.py`` and the ``optinc`` command."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from optinc.errors import ConfigurationError, OptINCError
from optinc.runs import locks
from optinc.runs.checkpoints import check_checkpoint
from optinc.runs.output_folder import check_output
from optinc.runs.processes import process_rank
from optinc.runs.resume import finished_before, newest_good_checkpoint, resumes_by_itself
from optinc.runs.summary import SUMMARY_FILE
from optinc.tasks.config import register, validate
from optinc.tasks.prepared import as_hydra_takes_them, prepare, refuse_dotted_groups
from optinc.tasks.stopping import install_sigterm, stopped_message, stopping_signal
from optinc.tasks.unknown_settings import conf_dir

logger = logging.getLogger(__name__)

CONF = conf_dir()

RESUMABLE = ("train", "train_onn")
"""Tasks that go on from a checkpoint."""

register()
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


def run(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the configuration and run its task.

    Args:
        cfg: The composed configuration.

    Returns:
        The metrics written to ``summary.json``, and the objects that were built.

    Raises:
        OptINCError: If a setting is illegal or something it names is missing.
    """
    cfg = prepare(cfg)
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


def objective(cfg: DictConfig, metrics: dict[str, Any]) -> float | None:
    """Return the value that a sweeper optimises, None if the task has no such value.

    Raises:
        ConfigurationError: If it was asked for and is no number of the summary.
    """
    value = metrics.get(cfg.objective)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if cfg.objective == "val_loss":
        return None
    numbers = [name for name, each in metrics.items() if isinstance(each, int | float)]
    raise ConfigurationError(
        f"objective must be a number of summary.json ({' | '.join(numbers)}), got {cfg.objective}"
    )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> float | None:
    """Run one job of Hydra, and return what its sweeper optimises."""
    install_sigterm()
    try:
        metrics, _ = run(cfg)
        return objective(cfg, metrics)
    except OptINCError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.status) from error
    except (KeyboardInterrupt, SystemExit) as error:
        stopped_by = stopping_signal(error)
        if stopped_by is None:
            raise
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(stopped_message(stopped_by, cfg), file=sys.stderr)
        raise SystemExit(128 + stopped_by) from error


def main() -> None:
    """Run the jobs of the command line.

    An error raised on purpose is printed as one line, and the exit status is its own: 2, or 3 for
    an ONN that is stored but receives inputs wrong. It is 143 after SIGTERM, and 130 after Ctrl-C.
    """
    try:
        sys.argv[1:] = as_hydra_takes_them(sys.argv[1:])
        refuse_dotted_groups(sys.argv[1:])
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    _job()


if __name__ == "__main__":
    main()
