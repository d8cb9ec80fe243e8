"""Links between network namespaces: their speed, their bytes, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.wire import links
from benchmarks.wire.links import Place, star
from optinc.errors import ConfigurationError
from tests.processes import ROOT, Run

GIGABITS = 0.1
SENT = 3_000_000

RECEIVER = f"""
import socket, time
with socket.create_server(("0.0.0.0", 5000)) as server:
    print("listening", flush=True)
    with server.accept()[0] as sender:
        received = len(sender.recv(1 << 20))
        start = time.perf_counter()
        while received < {SENT}:
            received += len(sender.recv(1 << 20))
        print(time.perf_counter() - start)
"""

SENDER = f"""
import socket
from benchmarks.wire.links import NETWORK, sent_through_cable
before = sent_through_cable()
with socket.create_connection((f"{{NETWORK}}.1", 5000)) as receiver:
    receiver.sendall(bytes({SENT}))
    receiver.shutdown(socket.SHUT_WR)
    receiver.recv(1)
print(sent_through_cable() - before)
"""

BUILDER = """
import json, sys, time
from benchmarks.wire.links import star
with star(2, gigabits=1) as places:
    print(json.dumps([place.prefix for place in places]), flush=True)
    time.sleep(600)
"""


@contextmanager
def allowed_star(servers: int) -> Iterator[list[Place]]:
    with ExitStack() as stack:
        try:
            places = stack.enter_context(star(servers, gigabits=GIGABITS))
        except ConfigurationError as error:
            pytest.skip(str(error))
        yield places


def start(place: Place, code: str) -> subprocess.Popen[str]:
    command = [*place.prefix, sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def namespaces() -> set[str]:
    """Network namespaces in which any process lives."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        # It may end between the two.
        with suppress(OSError):
            found.add(str((process / "ns" / "net").readlink()))
    return found


def test_links_are_as_fast_as_told_and_count_every_frame() -> None:
    own = interfaces()
    with allowed_star(2) as places:
        receiver = start(places[0], RECEIVER)
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        sender = start(places[1], SENDER)
        seconds = float(receiver.communicate(timeout=30)[0])
        frames = int(sender.communicate(timeout=30)[0])
        assert interfaces() == own
    # What passes at once at both ends is not held back.
    held_back = SENT - 2 * 131_072 - (1 << 20)
    assert seconds >= held_back * 8 / (GIGABITS * 1e9)
    # 1448 bytes of a frame of 1514 are payload.
    assert SENT * 1514 / 1448 <= frames <= 1.02 * SENT * 1514 / 1448


def test_nothing_is_left_afterwards() -> None:
    before = namespaces()
    with allowed_star(3) as places:
        inside = {place.prefix[1] for place in places}
        assert len(inside) == 3
        assert len(namespaces() - before) >= 4
        held = [Path(word.removeprefix("--net=")).parents[1] for word in inside]
        assert all(path.is_dir() for path in held)
    assert not any(path.exists() for path in held)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_benchmark_that_ends_early(number: signal.Signals) -> None:
    with allowed_star(1):
        pass
    builder = Run("-c", BUILDER)
    try:
        assert builder.process.stdout is not None
        prefixes = json.loads(builder.process.stdout.readline())
        assert len(builder.alive()) >= 4
        builder.process.send_signal(number)
        deadline = time.monotonic() + 20
        while builder.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not builder.alive()
        assert not any(Path(words[1].removeprefix("--net=")).exists() for words in prefixes)
    finally:
        builder.kill()
        builder.process.communicate()


def test_a_machine_that_refuses_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PROGRAMS", ("unshare", "no-such-program"))
    expected = r"links of 1 Gb/s need .* \(no program no-such-program\): run as root, .*loopback"
    with pytest.raises(ConfigurationError, match=expected), star(2, gigabits=1):
        pass


def test_what_unshare_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in its place that refuses as it does without rights."""
    program = tmp_path / "unshare"
    program.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    expected = r"\(unshare failed: Operation not permitted\)"
    with pytest.raises(ConfigurationError, match=expected), star(2, gigabits=1):
        pass


def test_what_the_kernel_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with allowed_star(1):
        pass
    monkeypatch.setattr(links, "QUEUE", "nothing")
    with (
        pytest.raises(ConfigurationError, match=r"\(tbf: illegal value for \"limit\""),
        star(1, gigabits=1),
    ):
        pass
