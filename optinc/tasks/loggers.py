"""The loggers of a run, closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from optinc.tasks.instantiate import instantiate


@contextmanager
def open_loggers(cfg: DictConfig) -> Iterator[list[Logger]]:
    """Build the loggers of ``cfg.logger``, hand them the configuration, and close them.

    A W&B run that is left open would take in the next run of a sweep.
    """
    loggers: list[Logger] = []
    status = "failed"
    try:
        # One by one: those built before a failing one must be closed too.
        for node in cfg.logger.values():
            loggers.append(instantiate(node))  # noqa: PERF401
        settings = OmegaConf.to_container(cfg, resolve=True)
        for logger in loggers:
            logger.log_hyperparams(settings)  # type: ignore[arg-type]
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=0 if status == "success" else 1)


def log_files(loggers: list[Logger], *, name: str, kind: str, files: list[Path]) -> None:
    """Store files as an artifact in the trackers that have such a thing (W&B)."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415  (only where logger=wandb asks for it)

            artifact: Any = wandb.Artifact(name=name, type=kind)
            for path in files:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
