"""Everything that waits for a GPU, in stages of bounded time, the most valuable first.

    python -m benchmarks.gpu --minutes 9 --out FOLDER [--stages kernels,reduce,fig7a,rows]
        [--wheels FOLDER] [--data FOLDER] [--resume FOLDER]

Every stage runs in a process of its own and saves its results in ``--out`` as soon as they exist:
``STAGE.json``, the runs in ``runs.tar.gz``, ``log.txt``, and in ``summary.json`` how each stage
ended. A stage that fails does not stop the others; the exit status is then 1. ``--stages data``
only keeps the parts of the data set that have arrived. ``--collect FOLDER`` prints such results,
and with ``--save`` keeps them in ``benchmarks/results``. GPU.md has the exact calls.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.inputs import InputError, collect, install
from benchmarks.gpu.stages import SHARES, allotted, run_stage

RESERVE = 5.0
"""Seconds kept for what remains when the last stage has ended."""

SHOWN = 3000
"""Characters of a stage's output that are shown."""


def main() -> int:
    """Run the stages; return the exit status."""
    start = time.monotonic()
    arguments = _arguments()
    if arguments.collect is not None:
        return _collect(arguments.collect, keep=arguments.save)
    # So that the stage in progress is ended with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    site = arguments.store / "site"
    summary: dict[str, Any] = {"minutes": arguments.minutes, "inputs": {}, "stages": {}}
    _prepare(arguments, site, summary)
    _write(out, summary)
    stages = [stage for stage in arguments.stages if stage != "data"]
    given = _passed_on(arguments, out)
    while stages:
        left = arguments.minutes * 60 - RESERVE - (time.monotonic() - start)
        # The miniature measures nothing, and may run on a busy machine.
        seconds = left if arguments.miniature else allotted(stages[0], stages, left)
        stage, log = stages.pop(0), out / "log.txt"
        begin = log.stat().st_size if log.is_file() else 0
        outcome = run_stage(stage, given, seconds=seconds, log=log, site=site)
        summary["stages"][stage] = asdict(outcome)
        _write(out, summary)
        print(log.read_bytes()[begin:].decode(errors="replace")[-SHOWN:])
        print(f"{stage}: {outcome.status} after {outcome.seconds:.0f} s", flush=True)
    bad = [each for each in summary["stages"].values() if each["status"] != "finished"]
    return 1 if bad or any(v is not True for v in summary["inputs"].values()) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time of all stages")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--stages", type=_stages, default=list(SHARES), metavar="A,B")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of missing packages")
    parser.add_argument("--data", type=Path, help="folder of parts of CIFAR-100")
    parser.add_argument(
        "--store",
        type=lambda text: Path(text).resolve(),
        default=Path(tempfile.gettempdir()) / "optinc_gpu",
        help="folder that outlasts a call (default %(default)s)",
    )
    parser.add_argument("--resume", type=Path, help="folder of the runs.tar.gz of an earlier call")
    parser.add_argument("--commit", default="", help="commit, where there is no repository")
    parser.add_argument("--epochs", type=int, help="of fig7a, as in an earlier call")
    parser.add_argument("--miniature", action="store_true", help="tiny sizes, on any device")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="show results, run nothing")
    parser.add_argument("--save", action="store_true", help="keep them in benchmarks/results")
    return parser.parse_args()


def _collect(folder: Path, *, keep: bool) -> int:
    """Show results; return the exit status."""
    from benchmarks.gpu.collected import show_and_keep  # noqa: PLC0415  (imports torch)
    from optinc.errors import OptINCError  # noqa: PLC0415

    try:
        return int(show_and_keep(folder, keep=keep))
    except OptINCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _stages(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in (*SHARES, "data"):
            raise argparse.ArgumentTypeError(f"{name!r} is none of data, {', '.join(SHARES)}")
    return [name for name in ("data", *SHARES) if name in names]


def _prepare(arguments: argparse.Namespace, site: Path, summary: dict[str, Any]) -> None:
    """Install the wheels and collect the data; note what is wrong, and go on."""
    inputs = summary["inputs"]
    try:
        if arguments.wheels is not None:
            inputs["wheels"] = False
            install(arguments.wheels, site)
            inputs["wheels"] = True
        if arguments.data is not None:
            missing = collect(arguments.data, arguments.store / "data")
            summary["data"] = "complete" if missing is None else missing
            print(summary["data"], flush=True)
    except InputError as error:
        inputs["error"] = str(error)
        print(f"error: {error}", flush=True)
    except Exception:
        inputs["error"] = traceback.format_exc()
        print(inputs["error"], flush=True)


def _passed_on(arguments: argparse.Namespace, out: Path) -> list[str]:
    given = [f"--out={out}", f"--store={arguments.store}", f"--commit={arguments.commit}"]
    if arguments.resume is not None:
        given.append(f"--resume={arguments.resume.resolve()}")
    if arguments.epochs is not None:
        given.append(f"--epochs={arguments.epochs}")
    return [*given, *(["--miniature"] if arguments.miniature else [])]


def _write(out: Path, summary: dict[str, Any]) -> None:
    temporary = out / ".summary.json.tmp"
    temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / "summary.json")


if __name__ == "__main__":
    sys.exit(main())
