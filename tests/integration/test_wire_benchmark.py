"""``python -m benchmarks.wire`` as a user runs it: real links, counted bytes, and early ends."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.arms import TORCH
from benchmarks.wire.__main__ import main
from benchmarks.wire.links import star
from optinc.errors import ConfigurationError
from tests.processes import Run

pytestmark = pytest.mark.slow


def command_line(lines: Path, *options: str) -> list[str]:
    """The benchmark on the links that this machine allows."""
    try:
        with star(1, gigabits=1):
            link = "1"
    except ConfigurationError:
        link = "loopback"
    servers = ["--links", link, "--servers", "2"]
    return ["benchmarks.wire", *servers, f"--lines={lines}", "--seconds=0.1", *options]


def rows(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def test_cases_are_measured_once_and_bytes_are_those_of_a_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.jsonl"
    line = command_line(lines, f"--only=1 MB, ({TORCH}|optinc 8 bits)$")
    monkeypatch.setattr(sys, "argv", line)
    main()
    torchs, ours = rows(lines)
    assert (torchs["arm"], ours["arm"]) == (TORCH, "optinc 8 bits")
    # 2 (2 - 1) / 2 of 1 MB, and a message header a segment.
    assert 1e6 <= torchs["sent"] <= 1.002e6
    # Codes of 8 bits there and back; what else is sent is the affair of test_wire.py.
    assert ours["sent"] >= 0.25e6
    if torchs["link"] == "1":
        # 1448 bytes of a frame of 1514 are payload; acknowledgements come on top.
        assert 0.995 * 1514 / 1448 <= torchs["frames"] / torchs["sent"] <= 1.2
        # No faster than the link, but for what passes at once at both ends.
        assert torchs["alone"] > (torchs["frames"] - 2 * 131_072) * 8 / 1e9
    capsys.readouterr()
    main()
    assert len(rows(lines)) == 2
    assert TORCH in capsys.readouterr().out


def test_no_process_and_no_link_outlives_the_benchmark(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    run = Run("-m", *command_line(lines, "--only=1 KB"))
    try:
        run.wait_for(lines)
        assert len(run.alive()) >= 3
        run.process.kill()
        deadline = time.monotonic() + 30
        while run.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not run.alive()
    finally:
        run.kill()
        run.process.communicate()
