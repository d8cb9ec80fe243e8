from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from optinc.errors import OptINCError, OutputError
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.checkpoints import (
    CHECKPOINT_KEY,
    AtomicCheckpointIO,
    reducer_state,
    restore_reducer,
)
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.single import IdealSwitch

FULL_DISK = """
import resource, sys, torch
from optinc.errors import OutputError
from optinc.strategies.checkpoints import AtomicCheckpointIO

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(100_000)}, sys.argv[1])
except OutputError as error:
    print(error)
    sys.exit(3)
"""
"""Python ignores SIGXFSZ, so that a file above the limit is an OSError in the middle of it."""


def save(path: Path | str, value: float = 1.0) -> None:
    AtomicCheckpointIO().save_checkpoint({"weights": torch.full((1000,), value)}, path)


def load(path: Path) -> float:
    return AtomicCheckpointIO().load_checkpoint(path)["weights"].unique().item()


def test_a_checkpoint_is_written_replaced_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "last.ckpt"
    for value in (1.0, 2.0):
        save(path, value)
        assert load(path) == value
        assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_strategy_writes_its_checkpoints_so() -> None:
    strategy = VirtualServersStrategy(RingReducer(servers=2))
    assert isinstance(strategy.checkpoint_io, AtomicCheckpointIO)


def test_a_disk_that_fills_up_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 7.0)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), "20000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert f"checkpoint {path} cannot be written: File too large" in done.stdout
    assert "older checkpoints are intact" in done.stdout
    assert load(path) == 7.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    ],
)
@pytest.mark.parametrize("function", ["open", "fsync", "replace"])
def test_every_failure_is_reported_and_leaves_the_old_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    message: str,
    function: str,
) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 7.0)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os if function == "fsync" else Path, function, fail)
        with pytest.raises(OutputError, match=message) as caught:
            save(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, OptINCError)
    assert load(path) == 7.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OutputError, match=r"last\.ckpt cannot be written: File exists"):
        save(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(OutputError, match=r"last\.ckpt cannot be written: Not a directory"):
        save(tmp_path / "checkpoints" / "deeper" / "last.ckpt")


def test_a_folder_in_place_of_the_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(OutputError, match=r"last\.ckpt cannot be written: Is a directory"):
        save(tmp_path / "last.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder no user can write to")
def test_a_read_only_folder_is_reported() -> None:
    with pytest.raises(OutputError, match=r"/proc/checkpoints/last\.ckpt cannot be written"):
        save("/proc/checkpoints/last.ckpt")


def test_a_file_that_vanishes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda self, target: self.unlink())
    with pytest.raises(OutputError, match="it is missing after"):
        save(tmp_path / "last.ckpt")


def test_ctrl_c_in_the_middle_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    save(tmp_path / "last.ckpt", 7.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "last.ckpt")
    assert load(tmp_path / "last.ckpt") == 7.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_remote_addresses_are_left_to_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", lambda self, *a: calls.append(a))
    monkeypatch.setattr(TorchCheckpointIO, "load_checkpoint", lambda self, *a: calls.append(a))
    AtomicCheckpointIO().save_checkpoint({"a": 1}, "s3://bucket/last.ckpt")
    AtomicCheckpointIO().load_checkpoint("s3://bucket/last.ckpt", None)
    assert calls == [
        ({"a": 1}, "s3://bucket/last.ckpt", None),
        ("s3://bucket/last.ckpt", None, None),
    ]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    # Lightning's own default obeys this variable.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"payload": Payload()}, tmp_path / "last.ckpt")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_from_before_the_first_reduction_clears_the_errors() -> None:
    """As Lightning's search for a learning rate restores it after a training that diverged."""
    scenario = make_scenario(bits=8, servers=2, onn_inputs="auto", rounding="half_even")
    reducer = OptINCReducer(
        quantizer=BlockQuantizer(bits=8), switch=IdealSwitch(scenario), error_feedback=True
    )
    before = {CHECKPOINT_KEY: reducer_state(reducer, reducer.server_state())}
    reducer(torch.randn(2, 256, generator=torch.Generator().manual_seed(0)))
    assert reducer.server_state()["error"].any()
    restore_reducer(reducer, before)
    assert not reducer.server_state()
    assert reducer.accounting.reductions == 0


def test_a_training_that_goes_on_through_another_onn_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was trained anew in its folder: a configuration knows the path alone."""
    reducer = RingReducer(servers=2)
    monkeypatch.setattr(reducer, "describe", lambda: {"onn_sha256": "a" * 64})
    before = {CHECKPOINT_KEY: reducer_state(reducer, {})}
    restore_reducer(reducer, before)
    monkeypatch.setattr(reducer, "describe", lambda: {"onn_sha256": "b" * 64})
    with pytest.warns(UserWarning, match=r"another ONN .* SHA-256 b{12}, had a{12}"):
        restore_reducer(reducer, before)
