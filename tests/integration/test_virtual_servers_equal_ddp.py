from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

SCRIPT = Path(__file__).parent / "two_servers.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Final weights and buffers of all cases, by two real processes and by two virtual servers."""
    folder = tmp_path_factory.mktemp("two_servers")
    launchers = {
        "ddp": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
        "virtual": [],
    }
    for mode, launcher in launchers.items():
        command = [sys.executable, *launcher, str(SCRIPT), mode, str(folder / mode)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return {mode: safetensors.torch.load_file(folder / mode) for mode in launchers}


@pytest.mark.parametrize("case", ["adamw", "sgd_clip", "clip_by_value", "accumulate", "bf16"])
def test_two_virtual_servers_equal_two_processes_bit_for_bit(
    results: dict[str, dict[str, Tensor]], case: str
) -> None:
    names = [name for name in results["ddp"] if name.startswith(f"{case}.")]
    assert any("running_mean" in name for name in names)
    for name in names:
        assert torch.equal(results["virtual"][name], results["ddp"][name]), name
