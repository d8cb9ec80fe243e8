"""``.run.json``: what names a run outside its folder (SLURM job, W&B run), and its overrides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from optinc.atomic_file import write_atomically

RECORD_FILE = ".run.json"


def read_record(folder: Path | str) -> dict[str, Any]:
    """Read the record of a run, empty if there is none that can be read."""
    try:
        record = json.loads((Path(folder) / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def add_to_record(folder: Path | str, **entries: str | list[str]) -> None:
    """Add entries to the record of a run.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(read_record(folder) | entries, indent=2) + "\n"
    write_atomically(Path(folder) / RECORD_FILE, text.encode())


def folders_of_job(pattern: str, job: str) -> list[Path]:
    """Return the folders of a SLURM job's runs, the newest first.

    Args:
        pattern: Pattern of the folders as in ``hydra.run.dir``, with resolvers (``${now:...}``).
        job: Name of the job, as its runs have recorded it.
    """
    parts = [re.sub(r"\$\{[^}]*\}", "*", part) for part in Path(pattern).expanduser().parts]
    first = next(number for number, part in enumerate([*parts, "*"]) if "*" in part)
    # The suffix of a folder whose name was taken.
    below = "/".join([*parts[first:-1], f"{parts[-1].rstrip('*')}*", RECORD_FILE])
    found = Path(*parts[:first]).glob(below)
    ours = [path for path in found if read_record(path.parent).get("job") == job]
    return [path.parent for path in sorted(ours, key=lambda path: -path.stat().st_mtime_ns)]
