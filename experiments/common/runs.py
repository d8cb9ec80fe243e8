"""Start jobs, and read what finished runs left in their folders."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from optinc.errors import ConfigurationError, WrongInputsError
from optinc.runs.finished_runs import Curve, read_curves
from optinc.runs.summary import SUMMARY_FILE

ROOT = Path(__file__).parents[2]
"""Root of the repository, in which jobs are started."""

OVERRIDES = Path(".hydra") / "overrides.yaml"
"""Where Hydra leaves the overrides of a run in its folder."""


def python(
    *arguments: str,
    threads: int | None = None,
    quiet: bool = False,
    wrong_inputs: bool = False,
) -> None:
    """Print and run ``python ARGUMENTS`` in the root of the repository, and wait for its end.

    Args:
        *arguments: Arguments of the interpreter, such as ``run.py`` and its overrides.
        threads: Threads of every process (``OMP_NUM_THREADS``); None leaves the environment alone.
        quiet: Print neither the command nor its standard output.
        wrong_inputs: Go on after the training of an ONN that still receives inputs wrong.

    Raises:
        subprocess.CalledProcessError: If the job fails; it has printed why.
    """
    if not quiet:
        print("$ python " + " ".join(arguments), flush=True)
    limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    try:
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            cwd=ROOT,
            env={**os.environ, **limit},
            stdout=subprocess.DEVNULL if quiet else None,
        )
    except subprocess.CalledProcessError as error:
        if not (wrong_inputs and error.returncode == WrongInputsError.status):
            raise


def run(
    folder: Path,
    *overrides: str,
    threads: int | None = None,
    quiet: bool = False,
    wrong_inputs: bool = False,
) -> dict[str, Any]:
    """Run one job through ``run.py``, and return its ``summary.json``.

    Args:
        folder: The run's folder, absolute or below the root of the repository.
        *overrides: Hydra overrides.
        threads: Threads of every process; None leaves the environment alone.
        quiet: Print neither the command nor its standard output.
        wrong_inputs: Go on after the training of an ONN that still receives inputs wrong.

    Raises:
        subprocess.CalledProcessError: If the job fails; it has printed why.
    """
    python(
        "run.py",
        *overrides,
        f"hydra.run.dir={folder}",
        threads=threads,
        quiet=quiet,
        wrong_inputs=wrong_inputs,
    )
    return _summary(ROOT / folder / SUMMARY_FILE)


def check_settings(folder: Path, wanted: Sequence[str]) -> None:
    """Check that a finished run is one that would be made now, wherever its data lay.

    Args:
        folder: The run's folder.
        wanted: Overrides of the run that would be made.

    Raises:
        ConfigurationError: If its settings differ; names the folder.
    """
    used = map(str, OmegaConf.load(folder / OVERRIDES))
    kept = [{each for each in of if not each.startswith("data.root=")} for of in (used, wanted)]
    differing = sorted(kept[0] ^ kept[1])
    if differing:
        raise ConfigurationError(
            f"{folder} was run with other settings ({', '.join(differing)}); choose another --runs"
        )


def other_overrides(folder: Path, settings: Sequence[str]) -> str:
    """Return the overrides of a finished run beside these, without its data's place."""
    used = map(str, OmegaConf.load(folder / OVERRIDES))
    kept = {each for each in used if not each.startswith(("data.root=", "hydra."))}
    return shlex.join(sorted(kept - set(settings)))


def settings_hash(folder: Path, *others: str) -> str:
    """Return a name for the settings of a finished run, without its seed and its data's place.

    Args:
        folder: The run's folder.
        *others: Further settings to leave out, such as ``arm``.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of its sorted overrides.
    """
    used = map(str, OmegaConf.load(folder / OVERRIDES))
    left_out = ("data.root=", "seed=", "hydra.", *(f"{each}=" for each in others))
    kept = sorted(each for each in used if not each.startswith(left_out))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:12]


def made(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return ``date``, ``commit`` and ``machine`` of a run; else today and ``unknown``."""
    return {
        "date": summary.get("date", date.today().isoformat()),
        "commit": summary.get("commit", "unknown"),
        "machine": summary.get("machine", "unknown"),
    }


def machines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the machines on which runs were made, those of :func:`made`, in alphabetical order."""
    return " and ".join(sorted({row["machine"] for row in rows}))


def multirun(folder: Path, *overrides: str) -> None:
    """Run every combination of the values in ``overrides`` through ``run.py -m``.

    Args:
        folder: The folder of all runs, absolute or below the root of the repository.
        *overrides: Hydra overrides, several values separated by commas.

    Raises:
        subprocess.CalledProcessError: If a job fails; it has printed why.
    """
    python("run.py", "-m", *overrides, f"hydra.sweep.dir={folder}")


def summaries(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the ``summary.json`` of every finished run below a folder, by the run's folder."""
    return {path.parent: _summary(path) for path in sorted(folder.rglob(SUMMARY_FILE))}


def curve(folder: Path, name: str) -> Curve:
    """Return one column of a run's ``metrics.csv``.

    Args:
        folder: The run's folder.
        name: A column, such as ``val_acc``.

    Returns:
        Steps and values, where the column has a value.
    """
    return read_curves(folder).get(name, ([], []))


def _summary(path: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary
