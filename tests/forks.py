"""Several servers as torchrun starts them, forked from a process that has imported all they need.

An interpreter takes seconds to import torch and Lightning, a fork of one that has done so none. The
tests of the start itself, and those in which servers are killed, take :mod:`tests.processes`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # of its C++ part

IMPORTED = [
    "pytorch_lightning",
    "transformers.models.llama",
    "optinc.models.llama",
    "optinc.models.resnet",
    "optinc.reducers.kernels.cpu",
    "optinc.strategies.ddp",
    "optinc.tasks.config",
    "optinc.tasks.main",
    "optinc.tasks.one_run",
    "optinc.tasks.train",
]
"""Modules that take most of the time until a server starts its work."""


def forked(servers: int, module: str, *arguments: str, seconds: float = 600.0) -> None:
    """Run a module in several processes, with one thread each, in the environment of torchrun.

    Args:
        servers: Number of processes.
        module: What would follow ``python -m``; all of its arguments.
        *arguments: See ``module``.
        seconds: Time until all must have ended.
    """
    # The agent of torchrun holds a store, in which the processes find each other.
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with TemporaryDirectory() as folder:
        logs = [Path(folder) / str(rank) for rank in range(servers)]
        started = [
            _fork_server().Process(
                target=_serve, args=(module, arguments, {**os.environ, **environment}, log)
            )
            for environment, log in zip(_environments(servers, store.port), logs, strict=True)
        ]
        for process in started:
            process.start()
        failed = _failed(started, seconds)
        if failed:
            output = "\n".join(f"{log.read_text()[-4000:]}" for log in logs)
            raise AssertionError(f"{module}: {failed}\n{output}")


def _failed(processes: list[BaseProcess], seconds: float) -> str:
    """Wait until all have ended or one has failed, end the others, and say what failed."""
    running = {process.sentinel: process for process in processes}
    try:
        while running:
            ended = [running.pop(sentinel) for sentinel in wait(list(running), seconds)]
            if not ended:
                return f"{len(running)} servers still ran after {seconds:g} s"
            for process in ended:
                process.join()
                if process.exitcode:
                    return f"server {processes.index(process)} ended with {process.exitcode}"
        return ""
    finally:
        for process in running.values():
            process.kill()
            process.join()


@cache
def _fork_server() -> ForkServerContext:
    """Start the process that is forked: with one thread, as its forks will have."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with patch.dict(os.environ, OMP_NUM_THREADS="1"):
        multiprocessing.forkserver.ensure_running()
    return context


def _environments(servers: int, port: int) -> Iterator[dict[str, str]]:
    """Yield what torchrun tells every process on a single machine."""
    start = uuid.uuid4().hex
    for rank in map(str, range(servers)):
        yield {
            **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), rank),
            **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), str(servers)),
            "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "1",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "TORCHELASTIC_MAX_RESTARTS": "0",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_RUN_ID": start,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }


def _serve(module: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    """Run the module in this process, which is a fork."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
