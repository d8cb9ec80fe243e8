"""Keeps the page in Weights & Biases."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

from experiments.common.record import conditions
from optinc.errors import ConfigurationError
from optinc.tasks.loggers import closing_loggers, log_files, start

RUNS = Path("runs") / "report"
"""Where W&B keeps its runs, in the current folder."""


def log_page(page: Path, *, project: str, online: bool, folder: Path = RUNS) -> Path:
    """Store a page as artifact ``report`` in a run of its own, which is closed in any case.

    Args:
        page: The page.
        project: Project of W&B.
        online: Upload it at once; otherwise ``wandb sync`` does so later.
        folder: Where W&B keeps its runs.

    Returns:
        The folder of the run.

    Raises:
        ConfigurationError: If W&B cannot start a run, for want of an account or of a network.
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
