from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from lightning_fabric.plugins.environments import LightningEnvironment

from optinc.strategies import launcher as launcher_module
from optinc.strategies.launcher import ServerLauncher

SLEEPS = "import time; time.sleep(60)"


class Started:
    """A launcher with processes that run the given code."""

    def __init__(self) -> None:
        self.launcher = ServerLauncher(LightningEnvironment(), 2, 1)

    def __call__(self, *codes: str) -> ServerLauncher:
        self.launcher.procs = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
        return self.launcher


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started()
    yield made
    for process in made.launcher.procs:
        process.kill()
        process.wait()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Signals that this process would have been sent; other processes get theirs."""
    sent: list[tuple[int, int]] = []
    send = os.kill

    def kill(pid: int, number: int) -> None:
        if pid == os.getpid():
            sent.append((pid, number))
        else:
            send(pid, number)

    monkeypatch.setattr(os, "kill", kill)
    return sent


def observe(launcher: ServerLauncher) -> None:
    """Observe the processes until the observer ends."""
    launcher.observe()
    for thread in threading.enumerate():
        if thread.name == "server-observer":
            thread.join(30)
            assert not thread.is_alive()


def test_stopping_waits_for_processes_that_end_in_time(started: Started) -> None:
    launcher = started("import sys; sys.exit(3)")
    launcher.stop(grace_seconds=30)
    assert [process.returncode for process in launcher.procs] == [3]


def test_stopping_kills_processes_that_have_not_ended_after_the_grace(started: Started) -> None:
    launcher = started(SLEEPS, SLEEPS)
    before = time.monotonic()
    launcher.stop(grace_seconds=0.1)
    assert [process.returncode for process in launcher.procs] == [-signal.SIGKILL] * 2
    assert time.monotonic() - before < 10


def test_servers_that_end_well_are_left_alone(
    started: Started, killed: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        observe(started("", ""))
    assert killed == []
    assert caplog.text == ""


def test_a_dead_server_ends_all_processes_after_the_grace(
    started: Started,
    killed: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(launcher_module, "GRACE_SECONDS", 0.1)
    launcher = started("import sys; sys.exit(7)", SLEEPS)
    with caplog.at_level(logging.ERROR):
        observe(launcher)
    assert "server 1 ended with status 7" in caplog.text
    assert launcher.procs[1].wait(30) == -signal.SIGKILL
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_a_process_that_notices_the_dead_server_itself_is_left_alone(
    started: Started, killed: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    launcher = started("import sys; sys.exit(7)")
    launcher.stop()
    with caplog.at_level(logging.ERROR):
        observe(launcher)
    assert "server 1 ended with status 7" in caplog.text
    assert killed == []
