"""Communication hooks of torch's DistributedDataParallel, run as reducers.

The hooks are torch's own (:mod:`.half_precision`, :mod:`.powersgd`). A hook gets the whole flat
gradient as one bucket, where DDP would call it for buckets of about 25 MB. Between real processes
it exchanges data itself; for N virtual servers it runs N times, in threads that take turns
(:mod:`.threaded_group`).

Real and virtual servers return equal bits for one or two servers, whose sum has only one order.
From three on, gloo and NCCL add in an order of their own, virtual servers in the order of the
ranks: results differ by the rounding of N-1 additions in the format that is sent.
"""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.error import add_error
from optinc.reducers.measures.traffic import ring_bytes
from optinc.reducers.peers.threaded_group import run_servers

Hook = Callable[[Any, Any], Future[Tensor]]


class FlatBucket:
    """The whole gradient of one server as the only bucket of a backward pass.

    Args:
        buffer_P: Float tensor [P], changed by hooks.
        shapes: Shapes of the parameters in it, in flat order; empty for hooks that do not ask for
            :meth:`gradients`.
    """

    def __init__(self, buffer_P: Tensor, shapes: Sequence[torch.Size] = ()) -> None:
        self._buffer_P = buffer_P
        self._shapes = shapes

    def buffer(self) -> Tensor:
        """Return the flat gradient [P]."""
        return self._buffer_P

    def index(self) -> int:
        """Return the number of this bucket."""
        return 0

    def is_last(self) -> bool:
        """Return True: no bucket follows in this backward pass."""
        return True

    def gradients(self) -> list[Tensor]:
        """Return the gradients of all parameters that have values, as views of the buffer.

        Scalars have shape [1]: torch's hooks ask for a first dimension.
        """
        parts = torch.split(self._buffer_P, [prod(shape) for shape in self._shapes])
        return [
            part.view(shape if shape else (1,))
            for part, shape in zip(parts, self._shapes, strict=True)
            if len(part)
        ]


class HookReducer(Reducer):
    """A reducer that runs one of torch's communication hooks.

    Every reduction measures the error against the exact mean, before error feedback makes up for
    it: on all values of virtual servers, on a sample of large gradients of real servers.
    """

    @abstractmethod
    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        """Return the hook states of the servers in this process.

        Args:
            gradient: Tensor [..., P] of the dtype and device of the gradients.
            held: Servers in this process.
        """

    @abstractmethod
    def _surroundings(self, device: torch.device) -> AbstractContextManager[None]:
        """Return a context around the hooks of all servers, for global state that they change."""

    @abstractmethod
    def _call(self, state: Any, group: dist.ProcessGroup, gradient_P: Tensor) -> Tensor:
        """Run the hook of one server on its gradient, which it may change; return the mean [P]."""

    @abstractmethod
    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        """Keep the state that lasts; return the bytes that each server has sent."""

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        states = self._begin(gradients_NP, self.servers)

        def serve(group: dist.ProcessGroup) -> Tensor:
            rank = group.rank()
            return self._call(states[rank], group, gradients_NP[rank].clone())

        with self._surroundings(gradients_NP.device):
            reduced_P = run_servers(self.servers, serve, device=gradients_NP.device)[0]
        add_error(self.accounting, gradients_NP, reduced_P)
        self._account(out_P.numel(), self._end(states, reduced_P))
        out_P.copy_(reduced_P)

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        (state,) = self._begin(gradient_P, 1)
        mean = self._sample(gradient_P, group)
        with self._surroundings(gradient_P.device):
            reduced_P = self._call(state, group.process_group, gradient_P)
        gradient_P.copy_(reduced_P)
        self._add_sampled_error(mean, gradient_P)
        self._account(gradient_P.numel(), self._end([state], gradient_P))

    def _account(self, values: int, sent: float) -> None:
        self.accounting.reductions += 1
        self.accounting.values += values
        self.accounting.bytes_sent += sent
        self.accounting.bytes_ring += ring_bytes(
            values=values, servers=self.servers, bytes_per_value=4
        )
