"""The loggers of a run, closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from optinc.errors import ConfigurationError
from optinc.tasks.instantiate import instantiate


@contextmanager
def open_loggers(cfg: DictConfig) -> Iterator[list[Logger]]:
    """Build the loggers of ``cfg.logger``, hand them the configuration, and close them.

    Raises:
        ConfigurationError: If W&B cannot start a run, for want of an account or of a network.
    """
    with closing_loggers() as loggers:
        settings = OmegaConf.to_container(cfg, resolve=True)
        for node in cfg.logger.values():
            logger: Logger = instantiate(node)
            try:
                start(logger, settings)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"logger=wandb {error}; logger.wandb.offline=true needs no account"
                ) from error
            # Now, not at the end: those before a failing one must be closed, and it must not.
            loggers.append(logger)
        yield loggers


@contextmanager
def closing_loggers() -> Iterator[list[Logger]]:
    """Close the loggers that were started inside and put into the list.

    A W&B run that is left open would take in the next run of a sweep.
    """
    loggers: list[Logger] = []
    status = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=0 if status == "success" else 1)


def start(logger: Logger, settings: Any) -> None:
    """Store the configuration, which opens a logger's files or starts its run.

    Raises:
        ConfigurationError: If W&B cannot start a run; says why.
    """
    failures: tuple[type[Exception], ...] = ()
    if isinstance(logger, WandbLogger):
        import wandb  # noqa: PLC0415  (only where W&B is asked for)

        failures = (wandb.errors.Error,)
    try:
        logger.log_hyperparams(settings)
    except failures as error:
        raise ConfigurationError(f"cannot start a run ({error})") from error


def log_files(loggers: list[Logger], *, name: str, kind: str, files: list[Path]) -> None:
    """Store files as an artifact in the trackers that have such a thing (W&B).

    Args:
        loggers: Loggers of a run that has not ended.
        name: Of the artifact; the same name with other content is a new version.
        kind: Its type, such as ``onn`` or ``report``.
        files: Each is stored under its own name.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415  (only where W&B is asked for)

            artifact: Any = wandb.Artifact(name=name, type=kind)
            for path in files:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
