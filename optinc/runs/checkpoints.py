"""Checkpoints to resume from: checked when a run starts, and found when it stops."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

from omegaconf import DictConfig

from optinc.errors import CheckpointError

KEYS = {"state_dict", "optimizer_states", "loops", "global_step"}
"""Entries of a checkpoint that Lightning needs to resume a training."""


def check_checkpoint(path: Path | str) -> None:
    """Refuse a file that is damaged, holds code, or is no checkpoint of a training.

    Takes about a second for each gigabyte; tensors are not kept in memory.

    Raises:
        CheckpointError: Names the file and the reason.
    """
    import torch  # noqa: PLC0415  (seconds, and most commands check no checkpoint)

    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"ckpt_path={path} is refused: it holds {_refused(error)}, and only tensors and plain "
            "values are ever loaded"
        ) from error
    except Exception as error:
        # The bytes of a damaged archive can make any part of the loader fail.
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"ckpt_path={path} cannot be read: {why}") from error
    missing = KEYS - content.keys() if isinstance(content, dict) else KEYS
    if missing:
        raise CheckpointError(
            f"ckpt_path={path} is no checkpoint of a training: it has no "
            f"{', '.join(sorted(missing))}"
        )


def own_checkpoints(cfg: DictConfig) -> list[Path]:
    """Return the checkpoints of a run, the newest first.

    These are the run's own and those that Lightning saves for a requeue (``hpc_ckpt_N.ckpt``).
    """
    settings = (cfg.get("callbacks") or {}).get("checkpoint") if cfg.choices.task == "train" else {}
    output = Path(cfg.paths.output_dir)
    folder = Path((settings or {}).get("dirpath") or output / "checkpoints")
    found = [*folder.glob("*.ckpt"), *output.glob("hpc_ckpt_*.ckpt")]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def newest_checkpoint(cfg: DictConfig) -> Path | None:
    """Return the checkpoint to resume a stopped run from, or None if there is none."""
    found = own_checkpoints(cfg)
    if found:
        return found[0]
    return Path(cfg.ckpt_path) if cfg.ckpt_path is not None else None


def _check_archive(path: Path | str) -> None:
    """Check the archive and its checksums: torch itself does not notice flipped bits."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"ckpt_path={path} cannot be read: it is truncated, or was not written by torch.save"
        )
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"ckpt_path={path} is damaged: wrong checksum of {damaged}")


def _refused(error: pickle.UnpicklingError) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"code ({found[1]})" if found else "more than data"
