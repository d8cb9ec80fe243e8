"""The output folder of a run, checked before anything long starts."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from optinc.atomic_file import reason
from optinc.errors import OutputError


def check_output(folder: Path | str, *, setting: str = "paths.output_dir") -> None:
    """Check that files can be written into a folder, which is created if missing.

    Args:
        folder: Output folder of a run.
        setting: Name of the setting, for the message.

    Raises:
        OutputError: If they cannot; names the setting and the reason.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-") as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise OutputError(
            f"cannot write into {setting}={folder}: {reason(error)}; choose another folder with "
            "hydra.run.dir (hydra.sweep.dir with -m)"
        ) from error


class OutputFolder(Callback):
    """Checks the output folder before Hydra writes into it and fails with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a single run."""
        _check_or_exit(config.hydra.run.dir, setting="hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a sweep."""
        _check_or_exit(config.hydra.sweep.dir, setting="hydra.sweep.dir")


def _check_or_exit(folder: str, *, setting: str) -> None:
    try:
        check_output(folder, setting=setting)
    except OutputError as error:
        # Hydra turns exceptions of callbacks into warnings.
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
