"""The contract every reducer keeps: gradients of N servers in, one gradient out."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.reducers.accounting import Accounting


class Reducer(nn.Module, ABC):
    """Averages the flat gradients of ``servers`` servers.

    A plain module: no Lightning, no Hydra, no process group. Strategies feed it the gradients of
    virtual or real servers; a notebook may call it directly. What it did is in :attr:`accounting`.

    Args:
        servers: Number of servers N, at least 1.

    Raises:
        ConfigurationError: If ``servers`` is less than 1.
    """

    def __init__(self, *, servers: int) -> None:
        super().__init__()
        if servers < 1:
            raise ConfigurationError(f"servers must be at least 1, got {servers}")
        self.servers = servers
        self.accounting = Accounting()

    def forward(self, gradients_NP: Tensor) -> Tensor:
        """Reduce the gradients of all servers to one.

        Args:
            gradients_NP: Float tensor [N, P], one row per server.

        Returns:
            Float tensor [P] of the same dtype and device.

        Raises:
            ValueError: If the shape is not [servers, P] or the dtype is not floating point.
            NonFiniteGradientError, SkipStep: See :class:`optinc.reducers.optinc.OptINCReducer`.
        """
        if gradients_NP.ndim != 2 or gradients_NP.shape[0] != self.servers:
            raise ValueError(
                f"expected gradients of shape [{self.servers}, P] (one row per server), "
                f"got {list(gradients_NP.shape)}"
            )
        if not gradients_NP.is_floating_point():
            raise ValueError(f"expected floating-point gradients, got {gradients_NP.dtype}")
        start = time.perf_counter()
        with torch.no_grad():
            reduced_P = self._reduce(gradients_NP)
            if reduced_P.is_cuda:
                # Kernels run asynchronously: without waiting, the time would be that of the launch.
                torch.cuda.synchronize(reduced_P.device)
        self.accounting.seconds += time.perf_counter() - start
        return reduced_P

    def describe(self) -> dict[str, str | None]:
        """Return the fidelity of the switch and the hash of its ONN; None where there is none."""
        return {"fidelity": None, "onn_sha256": None}

    @abstractmethod
    def _reduce(self, gradients_NP: Tensor) -> Tensor:
        """Reduce valid gradients [N, P] to [P] and update :attr:`accounting`, all but its time."""
