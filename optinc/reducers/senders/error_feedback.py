"""Error feedback: what a server could not send is added to its next gradient."""

# Shape suffixes: N servers held by this process, P gradient values.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optinc.errors import ConfigurationError


class ErrorFeedback:
    """Errors of the servers in this process, kept from reduction to reduction.

    A server sends Q(g + e) and keeps e' = g + e - Q(g + e) (Seide et al. 2014; Karimireddy et al.
    2019, arXiv:1901.09847), so that all of its gradients arrive in the end. A server whose gradient
    of a whole parameter is zero has nothing to send for it: its errors there wait, as the result of
    a parameter that nobody used is thrown away.

    New errors count from :meth:`commit` on. A reduction that fails, or is skipped, leaves the
    errors as they were, though parts of it may have been settled.
    """

    def __init__(self) -> None:
        self._errors_NP: Tensor | None = None
        self._next_NP: Tensor | None = None

    @property
    def held(self) -> int | None:
        """Servers whose errors are kept; None before the first reduction."""
        return None if self._errors_NP is None else len(self._errors_NP)

    def begin(self, servers: int, size: int, device: torch.device) -> None:
        """Make room for the errors of a gradient.

        Raises:
            ConfigurationError: If the errors belong to other servers or parameters.
        """
        kept = self._errors_NP
        if kept is not None and kept.shape != (servers, size):
            raise ConfigurationError(
                "the errors of optinc.quantization.error_feedback belong to "
                f"{kept.shape[0]} servers with {kept.shape[1]} values, but {servers} servers with "
                f"{size} values go on here; continue with as many servers and the same blocks, or "
                "start with a new reducer"
            )
        if kept is None or kept.device != device:
            self._errors_NP = (
                torch.zeros(servers, size, device=device) if kept is None else kept.to(device)
            )
            self._next_NP = None
        if self._next_NP is None:
            self._next_NP = torch.zeros(servers, size, device=device)

    def add(self, rows_NP: Tensor, parameters: Sequence[slice], *, first: int) -> None:
        """Add the errors to gradients, in place.

        Args:
            rows_NP: float32 tensor [N, n], a part of the gradients that holds whole parameters.
            parameters: Places of the parameters in it.
            first: Position of its first value in the whole gradient.
        """
        assert self._errors_NP is not None
        assert self._next_NP is not None
        part = slice(first, first + rows_NP.shape[1])
        errors_NP, next_NP = self._errors_NP[:, part], self._next_NP[:, part]
        for place in parameters:
            silent_N1 = ~rows_NP[:, place].any(1, keepdim=True)
            waiting = errors_NP[:, place] * silent_N1
            rows_NP[:, place] += errors_NP[:, place] - waiting
            next_NP[:, place] = waiting

    def settle(self, unsent_NP: Tensor, *, first: int) -> None:
        """Note what a part of the gradients held beyond what was sent, [N, n]."""
        assert self._next_NP is not None
        self._next_NP[:, first : first + unsent_NP.shape[1]] += unsent_NP

    def commit(self) -> None:
        """Let the errors noted since the last commit count: all parts have arrived."""
        self._errors_NP, self._next_NP = self._next_NP, self._errors_NP

    def forget(self) -> None:
        """Forget the errors: other parameters follow."""
        self._errors_NP = self._next_NP = None

    def state(self) -> dict[str, Tensor]:
        """Return ``error`` [N, P] in float32, once there is one."""
        return {} if self._errors_NP is None else {"error": self._errors_NP}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        self.forget()
        if "error" in state:
            self._errors_NP = state["error"].clone()
