"""Starts Python in processes of its own, as users, schedulers and torchrun do."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Finished(NamedTuple):
    """The exit status of a command and what it wrote."""

    status: int
    stdout: str
    stderr: str


class Run:
    """A Python command and all processes that it starts, in a session of their own.

    Args:
        *arguments: The command line behind ``python``.
        cwd: The folder in which it runs.
        threads: Threads of every process; more than one take sums in another order.
        **environment: Variables beside those of this process.
    """

    def __init__(
        self, *arguments: str, cwd: Path = ROOT, threads: int = 1, **environment: str
    ) -> None:
        self.command = shlex.join(["python", *arguments])
        # Inherited by all processes, also by those that leave the session.
        self.mark = f"OPTINC_TEST_RUN={uuid.uuid4()}"
        name, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def alive(self, *variables: str) -> list[int]:
        """Processes that run, where told only those with environment variables (``NAME=VALUE``)."""
        wanted = {self.mark.encode(), *(variable.encode() for variable in variables)}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # It may end between the two.
            with contextlib.suppress(OSError):
                if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                    found.append(int(process.name))
        return found

    def wait_for(self, path: Path, *, seconds: float = 120.0) -> None:
        """Wait until a file exists that the command writes."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                _, stderr = self.process.communicate()
                raise AssertionError(f"{self.command} did not write {path}:\n{stderr[-5000:]}")
            time.sleep(0.01)

    def finish(self, *, status: int | None = 0, seconds: float = 600.0) -> Finished:
        """Wait until all processes have ended, and kill them if they do not.

        Args:
            status: The exit status that the command must have, None for any.
            seconds: Time until then.
        """
        deadline = time.monotonic() + seconds
        try:
            stdout, stderr = self.process.communicate(timeout=seconds)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.1)
            late = bool(self.alive())
        except subprocess.TimeoutExpired:
            self.kill()
            stdout, stderr = self.process.communicate()
            late = True
        finally:
            self.kill()
        found = self.process.returncode
        output = f"{self.command}\n{stdout[-2000:]}\n{stderr[-8000:]}"
        assert not late, f"after {seconds:g} s there still ran {output}"
        assert status in (None, found), f"status {found} instead of {status}: {output}"
        return Finished(found, stdout, stderr)

    def kill(self) -> None:
        """End whatever still runs."""
        for pid in [self.process.pid] * (self.process.poll() is None) + self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def python(
    *arguments: str,
    status: int | None = 0,
    cwd: Path = ROOT,
    seconds: float = 600.0,
    **environment: str,
) -> Finished:
    """Run a Python command to its end, with one thread a process; see :class:`Run`."""
    return Run(*arguments, cwd=cwd, **environment).finish(status=status, seconds=seconds)


def torchrun(servers: int, *arguments: str) -> Finished:
    """Run a script or ``-m MODULE`` in several processes that torchrun starts."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={servers}"]
    return python(*launcher, *arguments)
