"""SIGTERM and Ctrl-C, which end a run like an error: loggers are closed, the status tells why."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import SIGTERMException

from optinc.commands import resume_argument
from optinc.runs.checkpoints import newest_checkpoint


def install_sigterm() -> None:
    """Let SIGTERM unwind the stack, also before and after the training.

    During a training Lightning's handler is in charge: it waits for the end of the batch.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def stopping_signal(error: BaseException) -> signal.Signals | None:
    """Return the signal behind an exception, or None if there is none.

    Lightning raises SystemExit without a status for SIGTERM, and with status 1 for Ctrl-C.
    """
    if isinstance(error, SIGTERMException):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    ):
        return signal.SIGINT
    return None


def stopped_message(stopped_by: signal.Signals, cfg: DictConfig) -> str:
    """Return a line that names the signal and the checkpoint to resume from."""
    path = newest_checkpoint(cfg)
    advice = (
        "there is no checkpoint to resume from"
        if path is None
        else f"resume with {resume_argument(path)}"
    )
    return f"stopped by {stopped_by.name}; {advice}"


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    # Lightning calls the handler that it has replaced after its own.
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        raise SIGTERMException
