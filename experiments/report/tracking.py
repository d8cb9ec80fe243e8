"""Store the page in Weights & Biases."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

from experiments.common.record import conditions
from optinc.errors import ConfigurationError
from optinc.tasks.loggers import closing_loggers, log_files, start

RUNS = Path("runs") / "report"
"""Folder of W&B's runs, below the current folder."""


def log_page(page: Path, *, project: str, online: bool, folder: Path = RUNS) -> Path:
    """Store a page as artifact ``report`` in a run of its own; close the run on errors too.

    Args:
        page: The page.
        project: Project of W&B.
        online: Upload at once; False leaves the upload to ``wandb sync``.
        folder: Folder of W&B's runs.

    Returns:
        The folder of the run.

    Raises:
        ConfigurationError: If W&B cannot start a run: without an account, or without a network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with closing_loggers() as loggers:
        logger = WandbLogger(
            project=project, job_type="report", offline=not online, save_dir=folder
        )
        try:
            start(logger, asdict(conditions()))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"--wandb {project} {error}; without --online it needs no account"
            ) from error
        loggers.append(logger)
        log_files(loggers, name="report", kind="report", files=[page])
        return Path(logger.experiment.dir).parent
