"""Runs jobs one after another by the same real servers, for tests that look at several.

    torchrun --nproc-per-node N -m tests.integration.jobs JOBS

JOBS is JSON: the command line of ``run.py`` for every job, by its output folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optinc.tasks.main import run
from tests.forks import forked
from tests.hydra_jobs import composed, store
from tests.integration.servers import one_server


def run_jobs(servers: int, jobs: Mapping[Path, Sequence[str]]) -> list[dict[str, Any]]:
    """Run jobs with ``strategy=ddp``; return their summaries."""
    real = ["strategy=ddp", f"trainer.devices={servers}"]
    lines = {str(folder): [*overrides, *real] for folder, overrides in jobs.items()}
    forked(servers, "tests.integration.jobs", json.dumps(lines))
    return [json.loads((folder / "summary.json").read_text()) for folder in jobs]


def main() -> None:
    with one_server():
        for name, overrides in json.loads(sys.argv[1]).items():
            folder = Path(name)
            run(composed(folder, *overrides))
            if os.environ["RANK"] == "0":
                store(composed(folder, *overrides), folder)


if __name__ == "__main__":
    main()
