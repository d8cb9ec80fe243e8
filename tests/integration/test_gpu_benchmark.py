"""``python -m benchmarks.gpu`` in miniature on the CPU: every stage's path, and its result."""

from __future__ import annotations

import json
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.stages import Outcome, run_stage
from experiments.common import runs
from tests.modules import run_job, run_module

pytestmark = pytest.mark.slow


def run_here(stage: str, arguments: list[str], *, seconds: float, **files: Path) -> Outcome:
    """Run a stage in this process, which saves seconds; the kernels need Triton's interpreter."""
    module = f"benchmarks.gpu.{stage}"
    with pytest.MonkeyPatch.context() as patch:
        if stage == "kernels":
            patch.setenv("TRITON_INTERPRET", "1")
            return run_stage(stage, arguments, seconds=seconds, **files)
        patch.setattr(runs, "python", run_job)
        status = run_module(module, f"--seconds={seconds:.0f}", *arguments)
    return Outcome("failed" if status else "finished", 0.0, status)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all stages."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("gpu")
    size = ["--miniature", "--minutes", "20"]
    folders = [f"--out={folder}", f"--store={folder / 'store'}", "--commit=abc1234"]
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(gpu, "run_stage", run_here)
        patch.setattr(sys, "argv", ["benchmarks.gpu", *size, *folders])
        assert gpu.main() == 0
    signal.signal(signal.SIGTERM, terminate)
    return folder


def content_of(folder: Path, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
    return content


def test_every_stage_finishes_within_few_files(folder: Path) -> None:
    summary = content_of(folder, "summary")
    assert list(summary["stages"]) == ["kernels", "reduce", "fig7a", "rows"]
    assert {each["status"] for each in summary["stages"].values()} == {"finished"}
    files = [path.name for path in folder.iterdir() if path.is_file()]
    assert len(files) == 7, files
    for stage in summary["stages"]:
        content = content_of(folder, stage)
        assert content["finished"], stage
        assert not content["failures"], stage
        assert content["commit"] == "abc1234"
        assert content["miniature"]


def test_kernels_equal_eager_torch_and_one_rank_equals_one_virtual_server(folder: Path) -> None:
    rows = content_of(folder, "kernels")["rows"]
    assert all(row["equal"] for row in rows)
    names = " ".join(row["check"] for row in rows)
    for expected in ("large gradient", "drawn, seed 1", "gloo with one rank, optinc, onn"):
        assert expected in names
    assert "strategy=ddp with one process" in names


def test_every_fidelity_and_every_peer_is_timed(folder: Path) -> None:
    rows = content_of(folder, "reduce")["rows"]
    names = {row["reducer"] for row in rows}
    for bits in (8, 16):
        for fidelity in ("table", "ideal", "error_injection", "onn"):
            assert f"optinc {bits} bits, {fidelity}" in names
    assert "optinc 8 bits, chip, 10 % of codes wrong" in names
    assert {"exact mean", "QSGD", "int8 blocks", "torch PowerSGD hook, rank 4"} <= names
    assert all(row["nanoseconds"] > 0 and 0 < row["bandwidth_share"] < 2 for row in rows)


def test_arms_are_trained_alike_and_rows_are_stored(folder: Path) -> None:
    arms = content_of(folder, "fig7a")
    assert [row["arm"] for row in arms["rows"]] == ["ring", "table2_3_4_5_6"]
    ring, injected = arms["rows"]
    assert ring["steps"] == injected["steps"] == 2
    assert ring["onn_error_rate"] == 0.0 < injected["onn_error_rate"]
    assert arms["step"]["seconds_per_step"] > 0
    row, finished = content_of(folder, "rows")["rows"]
    assert row["finished"]
    assert finished["finished"]
    assert 0 <= finished["wrong_inputs"] < row["wrong_inputs"] <= row["exhaustive_inputs"] == 49
    with tarfile.open(folder / "runs.tar.gz") as packed:
        names = packed.getnames()
    assert "fig7a_resnet50_lease/ring-1/summary.json" in names
    assert "rows/miniature/onn/model.safetensors" in names
    assert "rows/miniature/checkpoints/last.ckpt" in names
    assert "rows/miniature_finished/onn/model.safetensors" in names
