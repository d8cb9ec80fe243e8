"""``summary.json``: the settings and results of a run."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from optinc.atomic_file import reason, write_atomically
from optinc.errors import OutputError

if TYPE_CHECKING:
    # It takes seconds, and commands that compare or list need none of it.
    from torch import nn

SUMMARY_FILE = "summary.json"

CHOICES = ("experiment", "arm", "model", "data", "reducer", "strategy")
"""Groups whose option the summaries of trainings and evaluations hold."""


def chosen_options(cfg: DictConfig) -> dict[str, str | None]:
    """Return the option of every group in :data:`CHOICES`, and the scale of the experiment."""
    return {key: cfg.choices.get(key) for key in CHOICES} | {"scale": cfg.scale}


def weights_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of all parameters: names and values, in order."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        digest.update(name.encode())
        # float32 holds every half-precision value exactly, and NumPy has no bfloat16.
        digest.update(parameter.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_summary(folder: Path | str, summary: dict[str, Any]) -> Path:
    """Write ``summary.json``; NaN and infinity, which JSON lacks, become null.

    Raises:
        OutputError: If it cannot be written; an earlier summary stays intact.
    """
    path = Path(folder) / SUMMARY_FILE
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in summary.items()
    }
    text = json.dumps(clean, indent=2) + "\n"
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written (paths.output_dir): {reason(error)}; its content: "
            f"{json.dumps(clean)}"
        ) from error
    return path
