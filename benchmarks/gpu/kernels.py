"""Stage ``kernels``: the real Triton kernels against eager torch on the CPU, bit for bit; NCCL.

    python -m benchmarks.gpu.kernels --out FOLDER --store FOLDER [--seconds 120]

Runs every check of the kernels' tests, then drawn cases until the time is up, in several processes:
each case compiles programs of its own. Without a GPU the kernels are run by Triton's interpreter
(``TRITON_INTERPRET=1``), and gloo stands in for NCCL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import one_rank
from benchmarks.gpu.results import Options, StageResults, parse_options
from benchmarks.gpu.stages import ROOT
from optinc.reducers.kernels import cuda
from tests.unit.reducers import kernel_checks, triton_interpreter
from tests.unit.reducers.kernel_cases import Case, check_exchange, check_reduce, draw

WORKERS = 12
"""Most processes; each takes about half a gigabyte of a GPU's memory."""

ONE_RANK_SECONDS = 75.0
"""Time that is kept for the process group of one rank, and for tests/gpu."""

MINIATURE_DRAWS = 2

Named = tuple[str, int]
"""Kind and number of a check."""


def device() -> torch.device:
    """Return the device of the kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fixed(*, miniature: bool) -> dict[str, kernel_checks.Check]:
    """Return the checks that are not drawn."""
    return kernel_checks.small_checks() if miniature else kernel_checks.fixed_checks()


def drawn(seed: int, *, miniature: bool) -> Case:
    """Draw a case; interpreters get small ones without bfloat16."""
    if not miniature:
        return draw(seed)
    return draw(
        seed,
        values=triton_interpreter.VALUES,
        block_sizes=triton_interpreter.BLOCK_SIZES,
        dtypes=triton_interpreter.DTYPES,
    )


def check(named: Named, miniature: bool) -> dict[str, Any]:
    """Run one check in a process of the pool, and return its row."""
    kind, number = named
    start, name, error = time.perf_counter(), f"drawn, seed {number}", ""
    try:
        torch.manual_seed(number)
        if kind == "fixed":
            name, run = list(fixed(miniature=miniature).items())[number]
            run(cuda, device())
        else:
            case = drawn(number, miniature=miniature)
            name += f": {described(case)}"
            if not cuda.supports(case.plan):
                raise AssertionError("the kernels do not support this case")  # noqa: TRY301
            check_reduce(cuda, case, device=device())
            check_exchange(cuda, case, device=device())
    except Exception:
        error = traceback.format_exc()
    return {
        "check": name,
        "equal": not error,
        "seconds": time.perf_counter() - start,
        "error": error,
    }


def described(case: Case) -> str:
    """Return what a case has drawn."""
    plan = case.plan
    return (
        f"{plan.quantizer.bits} bits, {plan.servers} of {plan.fan_in} servers, {plan.path}, "
        f"{plan.quantizer.rounding}/{plan.rounding}, blocks of {plan.quantizer.block_size}, "
        f"{case.gradients.shape[1]} values {str(case.gradients.dtype).removeprefix('torch.')}"
    )


def checks(*, miniature: bool) -> Iterator[Named]:
    """Yield the checks, drawn ones without end but for the miniature."""
    yield from (("fixed", number) for number in range(len(fixed(miniature=miniature))))
    seeds = islice(count(), MINIATURE_DRAWS) if miniature else count()
    yield from (("drawn", seed) for seed in seeds)


def run_checks(options: Options, results: StageResults) -> None:
    """Run the checks in a pool of processes until the time is up."""
    workers = 1 if options.miniature else min(WORKERS, os.cpu_count() or 1)
    remaining = checks(miniature=options.miniature)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: set[Future[dict[str, Any]]] = set()
        for named in islice(remaining, 2 * workers):
            running.add(pool.submit(check, named, options.miniature))
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                # A broken pool (a process that a fault ended) is raised here, and noted.
                row = future.result()
                if row["error"]:
                    results.fail(row["check"], row["error"])
                results.rows.append(row)
            results.write()
            if options.left > ONE_RANK_SECONDS:
                for named in islice(remaining, len(done)):
                    running.add(pool.submit(check, named, options.miniature))
            else:
                for future in running:
                    future.cancel()
                running = {future for future in running if not future.cancelled()}


def run_one_rank(results: StageResults) -> None:
    """Compare a process group of one rank with one virtual server."""
    with tempfile.TemporaryDirectory() as folder:
        comparisons = [
            one_rank.reductions(Path(folder), device()),
            one_rank.trainings(Path(folder)),
        ]
        for compared in comparisons:
            with results.attempt("a process group of one rank"):
                for name, equal in compared:
                    results.add(check=name, equal=equal)
                    if not equal:
                        results.fail(name, "the results differ")


def run_gpu_tests(results: StageResults) -> None:
    """Run the tests that need a GPU, one row for all."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=ONE_RANK_SECONDS
    )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    results.add(check=f"tests/gpu: {last}", equal=done.returncode == 0)
    if done.returncode:
        results.fail("tests/gpu", done.stdout[-4000:] + done.stderr[-2000:])


def run(options: Options) -> int:
    """Run the stage; return the exit status."""
    on_gpu = device().type == "cuda"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    results = StageResults(
        "kernels",
        options,
        title="Triton kernels against eager torch on the CPU, bit for bit",
        notes="" if on_gpu else "No GPU: Triton's interpreter, and gloo in place of NCCL.",
    )
    if on_gpu or interpreted:
        with results.attempt("checks of the kernels"):
            run_checks(options, results)
    else:
        results.fail("checks of the kernels", "neither a GPU nor TRITON_INTERPRET=1")
    run_one_rank(results)
    with results.attempt("tests/gpu"):
        run_gpu_tests(results)
    equal = sum(row["equal"] for row in results.rows)
    print(f"{equal} of {len(results.rows)} checks equal", flush=True)
    return results.finish()


if __name__ == "__main__":
    sys.exit(run(parse_options(__doc__)))
