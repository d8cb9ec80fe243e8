"""Short trainings end in the weights, bit for bit, that they ended in when these were recorded.

A change of code that is to leave all results as they are is held to it here. Where results change
on purpose, record them anew and say so in the changelog:

    python -m tests.integration.test_unchanged_trainings
"""

from __future__ import annotations

import json
import platform
import subprocess
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.integration.unchanged_trainings import cases, quick_cases
from tests.processes import ROOT, python, torchrun

RECORD = Path(__file__).with_name("unchanged_trainings.json")
MODULE = "tests.integration.unchanged_trainings"
LAUNCHERS = {"virtual": python, "ddp": partial(torchrun, 2)}


def machine() -> dict[str, str]:
    """What decides about the last bits of a float: torch, and the instructions it is run with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "torch": torch.__version__.split("+")[0],
        "processor": names[0] if names else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def trained(mode: str, folder: Path, *options: str) -> dict[str, str]:
    """Run all trainings of a strategy, or with ``--quick`` some; return their hashes by name."""
    file = folder / f"{mode}.json"
    LAUNCHERS[mode]("-m", MODULE, mode, str(file), *options)
    hashes: dict[str, str] = json.loads(file.read_text())
    return hashes


# That real servers end in the weights of virtual ones is tested by test_ddp at every run.
@pytest.fixture(
    scope="module",
    params=[
        ("virtual", "--quick"),
        pytest.param(("virtual",), marks=pytest.mark.on_request),
        pytest.param(("ddp",), marks=pytest.mark.on_request),
    ],
    ids=" ".join,
)
def hashes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    recorded = json.loads(RECORD.read_text())
    here = machine()
    for name, value in here.items():
        if recorded[name] != value:
            pytest.skip(f"the hashes were recorded with {name} {recorded[name]}, here is {value}")
    mode, *options = request.param
    return trained(mode, tmp_path_factory.mktemp("unchanged"), *options)


@pytest.mark.slow
def test_trainings_end_in_the_recorded_weights(hashes: dict[str, str]) -> None:
    assert len(hashes) >= len(quick_cases())
    recorded = json.loads(RECORD.read_text())["weights_sha256"]
    changed = [name for name, value in hashes.items() if recorded[name] != value]
    assert not changed, f"other weights than at commit {json.loads(RECORD.read_text())['commit']}"


def test_every_training_has_a_recorded_hash() -> None:
    recorded = json.loads(RECORD.read_text())["weights_sha256"]
    assert set(recorded) == {f"{mode}-{name}" for mode in LAUNCHERS for name in cases(mode)}


def record() -> None:
    """Train everything and replace the recorded hashes."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with TemporaryDirectory() as folder:
        hashes = {k: v for mode in LAUNCHERS for k, v in trained(mode, Path(folder)).items()}
    content = {"commit": commit, **machine(), "weights_sha256": hashes}
    RECORD.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
