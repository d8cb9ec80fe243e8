"""The loggers of a run, which are closed also when it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from optinc.errors import ConfigurationError
from optinc.runs.run_record import add_to_record, read_record
from optinc.runs.stored_configuration import remember_overrides
from optinc.tasks.instantiate import instantiate


@contextmanager
def open_loggers(cfg: DictConfig) -> Iterator[list[Logger]]:
    """Build the loggers of ``cfg.logger``, log the configuration, and close them at the end.

    Raises:
        ConfigurationError: If W&B cannot start a run, without an account or a network.
    """
    if getattr(rank_zero_only, "rank", 0) == 0 and cfg.choices.task != "evaluate":
        # All settings have been checked by now, also against those of a run that goes on.
        remember_overrides(cfg.paths.output_dir)
    with closing_loggers() as loggers:
        settings = OmegaConf.to_container(cfg, resolve=True)
        for node in (cfg.logger or {}).values():
            logger: Logger = instantiate(node, **_same_run(cfg, node))
            try:
                start(logger, settings)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"logger=wandb {error}; logger.wandb.offline=true needs no account"
                ) from error
            # One by one: where a logger fails to start, only those before it are closed.
            loggers.append(logger)
            if isinstance(logger, WandbLogger) and getattr(rank_zero_only, "rank", 0) == 0:
                add_to_record(cfg.paths.output_dir, wandb=logger.experiment.id)
        yield loggers


def _same_run(cfg: DictConfig, node: DictConfig) -> dict[str, Any]:
    """Return what lets W&B go on with the run of a folder that is resumed."""
    run_id = read_record(cfg.paths.output_dir).get("wandb")
    if cfg.ckpt_path is None or run_id is None or node.get("id") is not None:
        return {}
    is_wandb = str(node._target_).rpartition(".")[2] == "WandbLogger"
    folder = Path(cfg.paths.output_dir).resolve()
    if not is_wandb or not Path(cfg.ckpt_path).resolve().is_relative_to(folder):
        return {}
    return {"id": run_id, "resume": "allow"}


@contextmanager
def closing_loggers() -> Iterator[list[Logger]]:
    """Close all loggers that the block appends to the list, also where it fails.

    A W&B run left open would swallow the next run of a sweep.
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
    """Log the configuration, which opens a logger's files or starts its run.

    Raises:
        ConfigurationError: If W&B cannot start a run; names the reason.
    """
    failures: tuple[type[Exception], ...] = ()
    if isinstance(logger, WandbLogger):
        import wandb  # noqa: PLC0415  (only where W&B is asked for)

        failures = (wandb.errors.Error,)
    try:
        logger.log_hyperparams(settings)
    except failures as error:
        raise ConfigurationError(f"cannot start a run ({error})") from error


def log_files(loggers: Sequence[Logger], *, name: str, kind: str, files: Sequence[Path]) -> None:
    """Store files as an artifact in the loggers that keep artifacts (W&B).

    Args:
        loggers: Loggers of a run that has not ended.
        name: Name of the artifact; other content under a known name is a new version.
        kind: Type of the artifact, such as ``onn`` or ``report``.
        files: Each is stored under its own name.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415  (only where W&B is asked for)

            artifact: Any = wandb.Artifact(name=name, type=kind)
            for path in files:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
