"""Start of one machine's servers as processes, which get time to report why they end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

from optinc.strategies.lightning_internals import ProcessLauncher

logger = logging.getLogger(__name__)

GRACE_SECONDS = 20.0
"""Seconds after a server's death in which the other processes have to notice it and end."""


class ServerLauncher(ProcessLauncher):
    """Starts the servers of this machine, and kills them only some time after one has died.

    Lightning kills all processes within five seconds, so that an error which all servers raise
    often ends with SIGKILL before it is reported and before trackers are closed. Here the other
    servers get :data:`GRACE_SECONDS` to notice the loss and end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stopped = threading.Event()

    def observe(self) -> None:
        """Watch the other servers of this machine in a thread."""
        threading.Thread(target=self._observe, name="server-observer", daemon=True).start()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Wait for the other servers of this machine to end, and kill them after the grace."""
        self._stopped.set()
        deadline = time.monotonic() + grace_seconds
        for process in self.procs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
            process.kill()
            process.wait()

    def _observe(self) -> None:
        """End this process too if a server died and this process did not notice."""
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
