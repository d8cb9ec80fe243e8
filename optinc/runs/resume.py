"""Resuming: when a run continues by itself, from which checkpoint, and with which settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optinc.errors import CheckpointError, ConfigurationError
from optinc.runs.checkpoints import check_checkpoint, own_checkpoints
from optinc.runs.differing_settings import changed_settings, training_settings
from optinc.runs.finished_runs import read_summary
from optinc.runs.processes import launch_id, restarts
from optinc.runs.stored_configuration import read_configuration
from optinc.runs.summary import SUMMARY_FILE

logger = logging.getLogger(__name__)

RESUME = ("requeue", "auto", "never")
"""Legal values of ``resume``."""


def resumes_by_itself(cfg: DictConfig) -> bool:
    """Tell whether a run continues from the newest checkpoint of its own folder.

    Raises:
        ConfigurationError: If ``resume`` is illegal; names the legal values.
    """
    resume = OmegaConf.select(cfg, "resume", default="requeue")
    if resume not in RESUME:
        raise ConfigurationError(f"resume must be {' | '.join(RESUME)}, got {resume}")
    return resume == "auto" or (resume == "requeue" and restarts() > 0)


def newest_good_checkpoint(cfg: DictConfig) -> Path | None:
    """Return the newest checkpoint of a run that can be read, None if there is none.

    A damaged one is left out with a warning.
    """
    return next((path for path in own_checkpoints(cfg) if _is_good(path)), None)


def _is_good(path: Path) -> bool:
    try:
        check_checkpoint(path)
    except CheckpointError as error:
        logger.warning("%s; an older checkpoint is taken", error)
        return False
    return True


SETTINGS_CALLBACK = "TrainingSettings"
"""Entry of the callbacks' state in a checkpoint, with the settings of its training."""


def finished_before(cfg: DictConfig) -> dict[str, Any] | None:
    """Return the summary of a training that has reached its end before, None if it has not.

    Raises:
        ConfigurationError: If that was a training with other settings.
    """
    path = Path(cfg.paths.output_dir) / SUMMARY_FILE
    if cfg.choices.task != "train" or cfg.ckpt_path is None or not path.is_file():
        return None
    checkpoint = load_checkpoint(cfg.ckpt_path)
    refuse_changes(cfg, checkpoint)
    return read_summary(path) if end_reached(cfg, checkpoint) is not None else None


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint, whose tensors stay on the disk until they are used."""
    import torch  # noqa: PLC0415  (seconds, and most commands load no checkpoint)

    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def check_resume(cfg: DictConfig) -> dict[str, Any] | None:
    """Read the checkpoint of a training, and refuse one that cannot be continued as asked for.

    Returns:
        The checkpoint; None if none is given.

    Raises:
        ConfigurationError: If the training has reached its end, or settings differ from those of
            the checkpoint's run and ``resume_changed`` is false; names them. Also where Lightning
            would take a checkpoint that nobody has asked for.
    """
    if cfg.ckpt_path is None:
        left = sorted(Path(cfg.paths.output_dir).glob("hpc_ckpt_*.ckpt"))
        if left and launch_id() is not None:
            raise ConfigurationError(
                f"{left[-1]} is left from a requeued job, and Lightning would silently go on from "
                "it under SLURM; resume=auto does so, and without this file a new training begins"
            )
        return None
    checkpoint = load_checkpoint(cfg.ckpt_path)
    refuse_changes(cfg, checkpoint)
    reached = end_reached(cfg, checkpoint)
    if reached is not None:
        raise ConfigurationError(
            f"ckpt_path={cfg.ckpt_path} has {reached}: nothing is left to train; a larger number "
            "trains longer, task=evaluate validates it"
        )
    return checkpoint


def end_reached(cfg: DictConfig, checkpoint: dict[str, Any]) -> str | None:
    """Return which limit of the trainer a checkpoint has reached, None if it has reached none."""
    steps, epochs = checkpoint["global_step"], _epochs(checkpoint)
    max_steps, max_epochs = cfg.trainer.max_steps, cfg.trainer.max_epochs
    if max_steps not in (None, -1) and steps >= max_steps:
        return f"taken {steps} steps, and trainer.max_steps={max_steps}"
    if max_epochs not in (None, -1) and epochs >= max_epochs:
        return f"seen {epochs} epochs, and trainer.max_epochs={max_epochs}"
    return None


def refuse_changes(cfg: DictConfig, checkpoint: dict[str, Any]) -> None:
    """Refuse to continue a training with other settings, or warn where ``resume_changed`` is true.

    Raises:
        ConfigurationError: Names the settings that differ, and how to go on.
    """
    before = _settings_of(cfg, checkpoint)
    changes = changed_settings(before, training_settings(cfg)) if before is not None else []
    if not changes:
        return
    text = f"ckpt_path={cfg.ckpt_path} is of a training with other settings: {', '.join(changes)}"
    if not cfg.resume_changed:
        raise ConfigurationError(f"{text}; resume_changed=true goes on nevertheless")
    logger.warning("%s; the state of the optimiser, with its rates, is the checkpoint's", text)


def check_written_by_its_run(path: Path | str, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint that a later run in its folder has left there.

    Raises:
        ConfigurationError: Names the settings by which the runs differ.
    """
    state = checkpoint.get("callbacks", {}).get(SETTINGS_CALLBACK)
    stored = next(filter(None, map(read_configuration, Path(path).resolve().parents[:2])), None)
    if state is None or stored is None:
        return
    if changes := changed_settings(state["settings"], training_settings(stored.config)):
        raise ConfigurationError(
            f"ckpt_path={path} is of an earlier training in its folder, whose configuration is now "
            f"that of another run: {', '.join(changes)}"
        )


def _settings_of(cfg: DictConfig, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the settings of a checkpoint's training, from its run's folder if it is an old one."""
    state = checkpoint.get("callbacks", {}).get(SETTINGS_CALLBACK)
    if state is not None:
        settings: dict[str, Any] = state["settings"]
        return settings
    for folder in Path(cfg.ckpt_path).resolve().parents[:2]:
        # Hydra has put the present configuration into the folder of this run.
        if folder != Path(cfg.paths.output_dir).resolve():
            stored = read_configuration(folder)
            if stored is not None:
                return training_settings(stored.config)
    return None


def _epochs(checkpoint: dict[str, Any]) -> int:
    progress = checkpoint["loops"].get("fit_loop", {}).get("epoch_progress", {})
    return int(progress.get("current", {}).get("processed", 0))
