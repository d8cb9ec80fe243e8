"""Starts the servers of one machine as processes, and gives them time to say why they end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

logger = logging.getLogger(__name__)

GRACE_SECONDS = 20.0
"""Time between the death of a server and that of processes that have not noticed it."""


class ServerLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, except for what happens when a server dies.

    Lightning kills all processes within five seconds, so that an error which all servers raise
    alike often ends with SIGKILL before it is reported and before trackers are closed. Here the
    others get :data:`GRACE_SECONDS` to meet the loss themselves.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stopped = threading.Event()

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: pl.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the other servers of this machine, then call ``function``."""
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=self._observe, name="server-observer", daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Wait for the other servers of this machine to end, then kill those that have not."""
        self._stopped.set()
        deadline = time.monotonic() + grace_seconds
        for process in self.procs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
            process.kill()
            process.wait()

    def _observe(self) -> None:
        """End this process too if a server died and nothing here noticed."""
        while True:
            codes = [process.poll() for process in self.procs]
            if all(code == 0 for code in codes):
                return
            for rank, code in enumerate(codes, start=1):
                if code:
                    logger.error("server %d ended with status %d", rank, code)
                    if not self._stopped.wait(GRACE_SECONDS):
                        # Inside a collective, nothing gentler is noticed.
                        self.kill(signal.SIGKILL)
                        os.kill(os.getpid(), signal.SIGKILL)
                    return
            time.sleep(0.5)
