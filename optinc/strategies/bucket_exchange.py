"""Communication hook of DistributedDataParallel that reduces the whole gradient at once."""

# Shape suffixes: P gradient values.

# Without `from __future__ import annotations`: DDP checks the annotations of the hook itself.

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.strategies.agreement import call_roll
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lost_servers import Attendance
from optinc.strategies.trainable import listed, parameters_of


class BucketExchange:
    """Collects the buckets of a backward pass in flat parameter order, and reduces them together.

    DDP's buckets change from step to step (one at first, several in reverse order later). The
    blocks of the quantiser may not change with them, or results would depend on bucket size and
    step. The price is that nothing is sent before the last gradient is known.

    An exception inside a hook would be lost in autograd's own error; it is kept until
    :meth:`finish`. A bucket that does not come, because a parameter in it has no gradient, would
    leave the other servers waiting; so they call the roll before each reduction, and all of them
    raise the error of any one.

    Args:
        reducer: Averages the gradients of the servers.
        layout: Flat order of the parameters.
        group: The servers.
        attendance: Progress of the servers, noted before each reduction.
        device: Device of the gradients.

    Attributes:
        calls: Hook calls so far, one for each bucket.
        stopping: Whether this server has been told to stop.
        all_stop: Whether any server had been told so before the last reduction.
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
        self.stopping = False
        self.all_stop = False
        self._device = device
        self._layout = layout
        self._gradient_P = torch.zeros(layout.size, dtype=layout.dtype, device=device)
        self._slices = {
            id(parameter): part
            for parameter, part in zip(layout.parameters, layout.slices, strict=True)
        }
        self._waiting: list[tuple[list[tuple[Tensor, slice]], Tensor, Future[Tensor]]] = []
        self._error: Exception | None = None
        self._complete = False
        self._problem: str | None = None

    def begin(self, problem: str | None = None) -> None:
        """Begin a backward pass that ends in a reduction.

        Args:
            problem: Why this server cannot reduce; all servers raise it in :meth:`finish`.
        """
        self._waiting = []
        self._complete = False
        self._problem = problem

    def hook(
        self,
        _state: object,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> Future[Tensor]:
        """Collect one bucket; after the last one, reduce and complete all of them.

        Raises:
            ConfigurationError: If its gradient is sparse; names the parameter.
        """
        self.calls += 1
        buffer = bucket.buffer()
        if buffer.layout != torch.strided:
            raise ConfigurationError(
                f"{listed(self._names(bucket.parameters()))} has a sparse gradient, "
                "which cannot be sent as symbols; build its layer with sparse=False"
            )
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

    def finish(self, loss: Tensor | None = None) -> None:
        """Raise the error of this backward pass's reduction, if there was one.

        Args:
            loss: What the pass began with; its graph tells which parameters it did not use.

        Raises:
            ConfigurationError: On all servers, if a bucket of one of them did not arrive; names
                server and parameters.
            Exception: The error that the reducer raised.
        """
        if not self._complete:
            self._answer(self._problem or self._missing(loss))
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _names(self, parameters: Iterable[Tensor]) -> list[str]:
        """Return the names of parameters, in flat order."""
        wanted = {id(parameter) for parameter in parameters}
        named = zip(self._layout.names, self._layout.parameters, strict=True)
        return [name for name, parameter in named if id(parameter) in wanted]

    def _missing(self, loss: Tensor | None) -> str:
        """Say what did not arrive in this pass."""
        arrived = {id(part) for views, _, _ in self._waiting for _, part in views}
        used = set() if loss is None else parameters_of(loss)
        unused = self._names(
            parameter
            for parameter in self._layout.parameters
            if id(self._slices[id(parameter)]) not in arrived and id(parameter) not in used
        )
        if not unused:
            return "DDP did not call the reducer for all gradients of this backward pass"
        return (
            f"this backward pass gave no gradient to {listed(unused)}; set "
            "strategy.find_unused_parameters=true "
            "(Trainer(strategy='optinc_ddp_find_unused_parameters_true')), or let every loss use "
            "all trainable parameters"
        )

    def _answer(self, problem: str | None) -> None:
        """Call the roll, and keep its error, or that of the communication."""
        try:
            self.all_stop = call_roll(
                self.group, self._device, problem=problem, stopping=self.stopping
            )
        except Exception as error:  # raised by finish
            self._error = error

    def _reduce(self) -> None:
        self._complete = True
        self.attendance.sign()
        # A switch that errs may have written something there in the last reduction.
        self._layout.clear_padding(self._gradient_P)
        self._answer(self._problem)
        if self._error is None:
            try:
                self.reducer.all_reduce(self._gradient_P, self.group)
            except Exception as error:  # raised by finish
                self._error = error
        waiting, self._waiting = self._waiting, []
        for views, buffer, future in waiting:
            for gradient, part in views:
                gradient.copy_(self._gradient_P[part].view(gradient.shape))
            future.set_result(buffer)
