"""The entry point behind ``run.py`` and the ``optinc`` command."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

import optinc
from optinc.errors import OptINCError
from optinc.runs.checkpoints import check_checkpoint
from optinc.runs.output_folder import check_output
from optinc.tasks.config import register, validate
from optinc.tasks.stopping import install_sigterm, stopped_message, stopping_signal


def _conf_dir() -> Path:
    """Return the configuration: inside an installed wheel, beside the package in a checkout."""
    package = Path(optinc.__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


CONF = _conf_dir()
register()
# The CSV logger finds Hydra's files in the run's folder; it would delete metrics.csv only.
warnings.filterwarnings("ignore", message="Experiment logs directory")
# Raised inside Lightning, by its use of torch's pytree.
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
# Resuming goes on in a folder of its own.
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
    validate(cfg)
    check_output(cfg.paths.output_dir)
    if cfg.ckpt_path is not None:
        check_checkpoint(cfg.ckpt_path)
    task = hydra.utils.get_method(cfg.task._target_)
    metrics, objects = task(cfg)
    return metrics, objects


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> None:
    """Run one job.

    The exit status is 2 after an error raised on purpose, which is printed as one line, 143 after
    SIGTERM, and 130 after Ctrl-C.
    """
    install_sigterm()
    try:
        run(cfg)
    except OptINCError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except (KeyboardInterrupt, SystemExit) as error:
        stopped_by = stopping_signal(error)
        if stopped_by is None:
            raise
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(stopped_message(stopped_by, cfg), file=sys.stderr)
        raise SystemExit(128 + stopped_by) from error


if __name__ == "__main__":
    main()
