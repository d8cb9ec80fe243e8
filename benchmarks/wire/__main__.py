"""Training steps of 2, 4 and 8 processes over links of a given speed.

    python -m benchmarks.wire [--quick] [--save [NAME]]

Each process has its own network namespace. Cables of 1 and 10 Gb/s join them to a switch;
``loopback`` is as fast as this machine. Gradients are those of ResNet50, the paper's LLaMA and a
perceptron, in real backward passes, and flat ones of 1 KB to 400 MB. They are averaged by torch's
DistributedDataParallel, by its hooks, by int8 blocks and by OptINC with 2 to 16 bits.

Ways to average the gradients of one network take turns, step by step. Results are kept in
``runs/wire``: started again with the same code, the benchmark continues where it was stopped. All
processes share the cores of this machine, one thread each. With more servers than cores a step is
longer than on separate servers, so the table also gives the time that the link alone would take for
the bytes that were sent.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.record import publish
from benchmarks.wire.cases import (
    LOOPBACK,
    Case,
    all_cases,
    code_hash,
    measured_together,
    quick_cases,
    selected,
    served_together,
)
from benchmarks.wire.links import Place, loopback, star
from benchmarks.wire.table import COLUMNS, TITLE, draw, notes, read_rows, rows_of
from benchmarks.wire.worker import Task, append
from experiments.common.options import command_parser
from experiments.common.tables import note
from optinc.errors import ConfigurationError, OptINCError

RUNS = Path("runs/wire")
"""Folder of the results by case."""

QUICK_MINUTES = 4.0
"""Time after which ``--quick`` begins no case."""


def main() -> None:
    """Run the command line; errors raised on purpose are printed as one line."""
    try:
        run(parse())
    except OptINCError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.status) from error
    except KeyboardInterrupt as error:
        print("stopped; run the same command again to go on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from error


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line.

    Raises:
        ConfigurationError: If a link is none; names the legal values.
    """
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases, in less than 5 minutes")
    parser.add_argument(
        "--save",
        nargs="?",
        const="wire",
        metavar="NAME",
        help="keep table and plot (as %(const)s, or as NAME)",
    )
    parser.add_argument(
        "--links", nargs="+", default=["1", "10", LOOPBACK], metavar="GB/S|loopback"
    )
    parser.add_argument("--servers", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="only cases whose names match, such as '4 servers, resnet50, optinc 8 bits'",
    )
    parser.add_argument("--seconds", type=float, help="time of one measurement (default 5)")
    parser.add_argument("--minutes", type=float, help="begin no case after this time")
    parser.add_argument("--lines", type=Path, help=f"results by case (default below {RUNS})")
    options = parser.parse_args(arguments)
    for link in options.links:
        if link != LOOPBACK and not (link.replace(".", "", 1).isdigit() and float(link) > 0):
            raise ConfigurationError(f"--links must be Gb/s (such as 1 10) or loopback, got {link}")
    return options


def run(options: argparse.Namespace) -> None:
    """Measure the cases that are missing, and print all; ``--save`` keeps table and plot."""
    quick = options.quick
    lines = options.lines or RUNS / ("quick.jsonl" if quick else "full.jsonl")
    lines.parent.mkdir(parents=True, exist_ok=True)
    found = (
        quick_cases(options.links)
        if quick
        else all_cases(links=options.links, servers=options.servers)
    )
    minutes = options.minutes or (QUICK_MINUTES if quick else float("inf"))
    cases, code = selected(found, options.only), code_hash()
    measure(
        cases,
        lines,
        code=code,
        seconds=options.seconds or (1.0 if quick else 5.0),
        deadline=time.time() + 60 * minutes,
    )
    rows = rows_of(cases, read_rows(lines, code))
    publish(
        "wire",
        title=TITLE,
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        keep=options.save is not None,
        kept_as=options.save,
        notes=notes(),
    )


def measure(cases: list[Case], lines: Path, *, code: str, seconds: float, deadline: float) -> None:
    """Measure all cases that have no line yet, in as few groups of processes as possible.

    Where a process ends, the case, or those that took turns, are noted as failed, and tried again
    the next time.
    """
    tried: set[Case] = set()
    while left := [case for case in cases if case not in tried | _done(lines, code)]:
        if time.time() > deadline:
            note(f"{len(left)} cases are left; run the same command again to go on")
            return
        group = served_together(left)
        note(f"{group[0].name}, and {len(group) - 1} more")
        task = Task(group, lines, seconds=seconds, most=20, deadline=deadline, code=code)
        problem, finished = serve(task), _done(lines, code)
        if problem is None:
            assert finished.issuperset(group) or time.time() > deadline, f"{lines} lacks cases"
        else:
            failed = next(
                together
                for together in measured_together(group)
                if not finished.issuperset(together)
            )
            for case in failed:
                append(lines, {**case.row(), "code": code, "failed": problem})
            note(f"{', or '.join(case.name for case in failed)}: {problem}")
            tried.update(failed)


def _done(lines: Path, code: str) -> set[Case]:
    return {case for case, row in read_rows(lines, code).items() if "failed" not in row}


def serve(task: Task) -> str | None:
    """Start the servers of a task, and wait for them; return why one failed, None if all ended."""
    first = task.cases[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task.write(folder / "task.json")
        links = (
            loopback(first.servers)
            if first.gigabits is None
            else star(first.servers, gigabits=first.gigabits)
        )
        places = stack.enter_context(links)
        port = free_port()
        workers = [
            stack.enter_context(Worker(place, rank, len(places), port, folder))
            for rank, place in enumerate(places)
        ]
        while any(worker.running for worker in workers):
            failed = [worker for worker in workers if worker.status not in (None, 0)]
            if failed:
                return failed[0].reason()
            time.sleep(0.05)
        failed = [worker for worker in workers if worker.status != 0]
        return failed[0].reason() if failed else None


class Worker:
    """One server's process; killed on leaving the context, and it ends by itself with this one.

    Args:
        place: Where it runs.
        rank: Index of the server.
        servers: Number of servers.
        port: Port at which the servers meet.
        folder: Holds the task; takes what the process writes.
    """

    def __init__(self, place: Place, rank: int, servers: int, port: int, folder: Path) -> None:
        self.rank = rank
        self.log = folder / f"{rank}.log"
        variables = {
            **place.environment,
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": str(servers),
            "OMP_NUM_THREADS": "1",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *place.prefix,
                    sys.executable,
                    *["-m", "benchmarks.wire.worker", str(folder / "task.json")],
                ],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self.process.poll()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.status is None

    def reason(self) -> str:
        """Return the last line that it wrote."""
        text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1] if text else "no output"
        return f"server {self.rank} ended with status {self.status}: {last}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
