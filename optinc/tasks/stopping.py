"""SIGTERM and Ctrl-C, which end a run like an error: loggers are closed, the status tells why."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optinc.commands import path_override, run_command
from optinc.runs.checkpoints import newest_checkpoint, own_checkpoints


class Terminated(SystemExit):
    """SIGTERM outside a training; inside, Lightning raises an exception of its own."""


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
    # Lightning's exception; it takes seconds to import, and what is not imported raised nothing.
    lightning = sys.modules.get("pytorch_lightning.utilities.exceptions")
    if isinstance(error, Terminated) or (
        lightning is not None and isinstance(error, lightning.SIGTERMException)
    ):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    ):
        return signal.SIGINT
    return None


def stopped_message(stopped_by: signal.Signals, cfg: DictConfig) -> str:
    """Return a line that names the signal, and the command that goes on from the checkpoint."""
    return f"stopped by {stopped_by.name}; {_advice(cfg)}"


def _advice(cfg: DictConfig) -> str:
    path = newest_checkpoint(cfg)
    if path is None:
        return "there is no checkpoint to resume from"
    folder = HydraConfig.get().runtime.output_dir
    if not own_checkpoints(cfg) or Path(cfg.paths.output_dir) != Path(folder):
        # Hydra's folder does not hold the checkpoints, so that resume=auto would not find them.
        return f"resume with {shlex.quote(path_override('ckpt_path', path))}"
    command = run_command(["resume=auto", path_override("hydra.run.dir", folder)])
    return f"resume with {command}"


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    # Lightning calls the handler that it has replaced after its own.
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        raise Terminated
