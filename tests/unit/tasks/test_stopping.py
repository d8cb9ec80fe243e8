from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from optinc.tasks.stopping import Terminated, install_sigterm, stopped_message, stopping_signal
from tests.hydra_jobs import composed


@pytest.fixture
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_default_handler")
def test_sigterm_unwinds_the_stack() -> None:
    install_sigterm()
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("_default_handler")
def test_sigterm_is_left_to_a_handler_that_replaces_ours() -> None:
    install_sigterm()
    ours = signal.getsignal(signal.SIGTERM)
    assert callable(ours)
    signal.signal(signal.SIGTERM, functools.partial(ours))
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("_default_handler")
def test_a_handler_that_is_there_stays() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    install_sigterm()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_the_signal_behind_an_exception_is_found() -> None:
    assert stopping_signal(SIGTERMException()) == signal.SIGTERM
    assert stopping_signal(Terminated()) == signal.SIGTERM
    assert stopping_signal(KeyboardInterrupt()) == signal.SIGINT
    assert stopping_signal(SystemExit(1)) is None
    assert stopping_signal(ValueError()) is None
    with pytest.raises(SystemExit) as caught:
        end_as_lightning_does()
    assert stopping_signal(caught.value) == signal.SIGINT


def end_as_lightning_does() -> None:
    try:
        press_ctrl_c()
    except KeyboardInterrupt:
        sys.exit(1)


def press_ctrl_c() -> None:
    # No real SIGINT: where tests run in the background, a shell lets it be ignored.
    raise KeyboardInterrupt


def test_the_message_is_the_command_that_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    cfg = composed(folder)
    assert stopped_message(signal.SIGTERM, cfg) == (
        "stopped by SIGTERM; there is no checkpoint to resume from"
    )
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    message = stopped_message(signal.SIGINT, cfg)
    assert message == (
        f"stopped by SIGINT; resume with python run.py resume=auto 'hydra.run.dir=\"{folder}\"'"
    )


def test_checkpoints_elsewhere_are_named_as_they_must_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    cfg = composed(tmp_path / "hydra", f"paths.output_dir={folder}")
    path = folder / "checkpoints" / "at-step=3.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    assert stopped_message(signal.SIGINT, cfg).endswith(f"with 'ckpt_path=\"{path}\"'")
    path.unlink()
    start = tmp_path / "other" / "last.ckpt"
    cfg = composed(folder, f"ckpt_path={start}")
    assert stopped_message(signal.SIGINT, cfg).endswith(f"resume with ckpt_path={start}")
