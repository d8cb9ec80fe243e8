"""Communication hook of DistributedDataParallel that reduces the whole gradient at once."""

# Shape suffixes: P gradient values.

# Without `from __future__ import annotations`: DDP checks the annotations of the hook itself.

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lost_servers import Attendance


class BucketExchange:
    """Collects the buckets of a backward pass in flat parameter order, and reduces them together.

    DDP's buckets change from step to step (one at first, several in reverse order later). The
    blocks of the quantiser may not change with them, or results would depend on bucket size and
    step. The price is that nothing is sent before the last gradient is known.

    An exception inside a hook would be lost in autograd's own error; it is kept until
    :meth:`finish`.

    Args:
        reducer: Averages the gradients of the servers.
        layout: Flat order of the parameters.
        group: The servers.
        attendance: Progress of the servers, noted before each reduction.
        device: Device of the gradients.

    Attributes:
        calls: Hook calls so far, one for each bucket.
    """

    def __init__(
        self,
        reducer: Reducer,
        layout: FlatParameters,
        *,
        group: ServerGroup,
        attendance: Attendance,
        device: torch.device,
    ) -> None:
        self.reducer = reducer
        self.group = group
        self.attendance = attendance
        self.calls = 0
        self._gradient_P = torch.zeros(layout.size, dtype=layout.dtype, device=device)
        self._clear_padding = layout.clear_padding
        self._slices = {
            id(parameter): part
            for parameter, part in zip(layout.parameters, layout.slices, strict=True)
        }
        self._waiting: list[tuple[list[tuple[Tensor, slice]], Tensor, Future[Tensor]]] = []
        self._error: Exception | None = None

    def hook(
        self,
        _state: object,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> Future[Tensor]:
        """Collect one bucket; after the last one, reduce and complete all of them."""
        self.calls += 1
        buffer = bucket.buffer()
        devices = [buffer.device] if buffer.is_cuda else []
        future: Future[Tensor] = Future(devices=devices)
        views = [
            (gradient, self._slices[id(parameter)])
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True)
        ]
        for gradient, part in views:
            self._gradient_P[part].view(gradient.shape).copy_(gradient)
        self._waiting.append((views, buffer, future))
        if bucket.is_last():
            self._reduce()
        return future

    def finish(self) -> None:
        """Raise the error of this backward pass's reduction, if there was one.

        Raises:
            Exception: The error that the reducer raised.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _reduce(self) -> None:
        self.attendance.sign()
        # A switch that errs may have written something there in the last reduction.
        self._clear_padding(self._gradient_P)
        try:
            self.reducer.all_reduce(self._gradient_P, self.group)
        except Exception as error:  # raised by finish
            self._error = error
        waiting, self._waiting = self._waiting, []
        for views, buffer, future in waiting:
            for gradient, part in views:
                gradient.copy_(self._gradient_P[part].view(gradient.shape))
            future.set_result(buffer)
