"""Communication hook of DistributedDataParallel that reduces buckets while backward runs."""

# Shape suffixes: P gradient values, V values of a bucket.

# Without `from __future__ import annotations`: DDP checks the annotations of the hook itself.

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future as Result
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Semaphore

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.partwise import Part, PartwiseReducer, Receive
from optinc.reducers.wire.table import BlockTable, Place
from optinc.strategies.agreement import call_roll
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lost_servers import Attendance
from optinc.strategies.trainable import listed, parameters_of

logger = logging.getLogger(__name__)

UNDER_WAY = 2
"""Buckets that are sent or received at a time, each with memory for its codes."""


@dataclass(frozen=True)
class Bucket:
    """The gradients of some parameters, as DDP hands them over.

    Attributes:
        buffer: All of them, one after the other.
        gradients: Views of the buffer, in the order of the parameters.
        slices: Places of the parameters in the whole gradient.
        future: Completed with the buffer.
        ready: On CUDA, when the gradients are there.
    """

    buffer: Tensor
    gradients: Sequence[Tensor]
    slices: Sequence[slice]
    future: Future[Tensor]
    ready: torch.cuda.Event | None

    @property
    def is_flat(self) -> bool:
        """Whether the buffer holds the gradients in the order of their indices."""
        return all(gradient.is_contiguous() for gradient in self.gradients)


class BucketExchange:
    """Reduces the buckets of a backward pass, each as soon as DDP hands it over.

    DDP's buckets change from step to step (one at first, several in reverse order later). Blocks
    end at the borders of parameters, so that each lies inside one bucket, and noise depends on
    positions in the whole gradient: neither size nor order of the buckets changes a bit. While
    autograd goes on, a thread sends buckets to the switch, and another one receives what comes
    back, each with process groups of its own: the result of a bucket travels while the next one is
    sent. On CUDA one thread launches both on a stream of their own, as two communicators of NCCL
    must not run at once. A reducer that needs the whole gradient, or is observed, gets all buckets
    together in flat order after the last one.

    An exception inside a hook would be lost in autograd's own error; it is kept until
    :meth:`finish`. A bucket that does not come, because a parameter in it has no gradient, would
    leave the other servers waiting; so they call the roll before each bucket, and all of them
    raise the error of any one.

    Args:
        reducer: Averages the gradients of the servers.
        layout: Flat order of the parameters.
        group: The servers, in a process group that nobody else uses meanwhile.
        roll: The same, for calling the roll without waiting for CUDA; None takes ``group``.
        back: The same, for receiving results while other buckets are sent; None takes ``group``,
            and receives each result before the next bucket is sent.
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
        roll: ServerGroup | None = None,
        back: ServerGroup | None = None,
        attendance: Attendance,
        device: torch.device,
    ) -> None:
        self.reducer = reducer
        self.group = group
        self.roll = group if roll is None else roll
        self.back = group if back is None else back
        self.attendance = attendance
        self.calls = 0
        self.stopping = False
        self.all_stop = False
        self._device = device
        self._layout = layout
        self._gradient_P: Tensor | None = None
        self._slices = {
            id(parameter): part
            for parameter, part in zip(layout.parameters, layout.slices, strict=True)
        }
        self._tables: dict[tuple[int, ...], BlockTable] = {}
        self._stream = _stream(device) if device.type == "cuda" else None
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="optinc-send")
        self._receiver = ThreadPoolExecutor(1, thread_name_prefix="optinc-receive")
        self._sending: list[Result[None]] = []
        self._receiving: list[Result[None]] = []
        self._under_way = Semaphore(UNDER_WAY)
        if group.rank == 0 and isinstance(reducer, PartwiseReducer):
            logger.info(reducer.describe_exchange(group.size))
        self.begin()

    def begin(self, problem: str | None = None) -> None:
        """Begin a backward pass that ends in a reduction.

        Args:
            problem: Why this server cannot reduce; all servers raise it in :meth:`finish`.
        """
        self._problem = problem
        self._waiting: list[Bucket] = []
        self._arrived: set[int] = set()
        # The servers' senders must agree on whether to go on, so each thread keeps its own error.
        self._error: Exception | None = None
        self._error_back: Exception | None = None
        self._complete = False
        partwise = isinstance(self.reducer, PartwiseReducer) and self.reducer.by_parts
        self._by_parts = partwise and self.reducer.observer is None
        if isinstance(self.reducer, PartwiseReducer):
            self.reducer.forget_parts()

    def hook(
        self,
        _state: object,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> Future[Tensor]:
        """Reduce one bucket, or collect it until the last one is there.

        Raises:
            ConfigurationError: If its gradient is sparse; names the parameter.
        """
        if self._complete:
            self.begin()
        self.calls += 1
        buffer = bucket.buffer()
        if buffer.layout != torch.strided:
            raise ConfigurationError(
                f"{listed(self._names(bucket.parameters()))} has a sparse gradient, "
                "which cannot be sent as symbols; build its layer with sparse=False"
            )
        given = Bucket(
            buffer=buffer,
            gradients=[
                _as_laid_out(gradient, parameter)
                for gradient, parameter in zip(bucket.gradients(), bucket.parameters(), strict=True)
            ],
            slices=[self._slices[id(parameter)] for parameter in bucket.parameters()],
            future=Future(devices=[buffer.device] if buffer.is_cuda else []),
            ready=_ready(buffer) if buffer.is_cuda else None,
        )
        first = not self._arrived
        self._arrived.update(id(parameter) for parameter in bucket.parameters())
        self._complete = bucket.is_last()
        if self._by_parts:
            work = partial(self._send_bucket, given, first=first, last=bucket.is_last())
            self._sending.append(self._sender.submit(work))
        else:
            self._waiting.append(given)
            if bucket.is_last():
                self._sending.append(self._sender.submit(self._reduce_whole))
        return given.future

    def finish(self, loss: Tensor | None = None) -> None:
        """Wait for this backward pass's reduction, and raise its error, if there was one.

        Args:
            loss: What the pass began with; its graph tells which parameters it did not use.

        Raises:
            ConfigurationError: On all servers, if a bucket of one of them did not arrive; names
                server and parameters.
            Exception: The error that the reducer raised.
        """
        sending, self._sending = self._sending, []
        for each in sending:
            each.result()
        receiving, self._receiving = self._receiving, []
        for each in receiving:
            each.result()
        if not self._complete and self._error is None:
            self._answer(self._problem or self._missing(loss))
        error = self._error or self._error_back
        self._error = self._error_back = None
        if error is not None:
            raise error

    def _names(self, parameters: Iterable[Tensor]) -> list[str]:
        """Return the names of parameters, in flat order."""
        wanted = {id(parameter) for parameter in parameters}
        named = zip(self._layout.names, self._layout.parameters, strict=True)
        return [name for name, parameter in named if id(parameter) in wanted]

    def _missing(self, loss: Tensor | None) -> str:
        """Say what did not arrive in this pass."""
        used = set() if loss is None else parameters_of(loss)
        unused = self._names(
            parameter
            for parameter in self._layout.parameters
            if id(parameter) not in self._arrived and id(parameter) not in used
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
            device = torch.device("cpu") if self.roll is not self.group else self._device
            self.all_stop = call_roll(self.roll, device, problem=problem, stopping=self.stopping)
        except Exception as error:  # raised by finish
            self._error = error

    def _send_bucket(self, bucket: Bucket, *, first: bool, last: bool) -> None:
        """Send one bucket, in the thread of the sender."""
        assert isinstance(self.reducer, PartwiseReducer)
        self._under_way.acquire()
        receive: Receive | None = None
        buffer_V = bucket.buffer
        try:
            if first:
                self.attendance.sign()
            if self._error is None:
                self._answer(self._problem)
            if self._error is None:
                with self._on_stream(bucket):
                    # Gradients in another order of memory, such as channels_last, are sent in flat
                    # order as by virtual servers.
                    if not bucket.is_flat:
                        buffer_V = _flat(bucket)
                    part = Part(buffer_V, self._table_of(bucket))
                    receive = self.reducer.send_part(part, self.group)
        except Exception as error:  # raised by finish
            self._error = error
        work = partial(self._receive_bucket, bucket, buffer_V, receive, last=last)
        if self.back is self.group:
            work()
        else:
            self._receiving.append(self._receiver.submit(work))

    def _receive_bucket(
        self, bucket: Bucket, buffer_V: Tensor, receive: Receive | None, *, last: bool
    ) -> None:
        """Receive the result of a bucket that was sent, in the thread of the receiver."""
        assert isinstance(self.reducer, PartwiseReducer)
        try:
            if receive is not None and self._error_back is None:
                with self._on_stream(bucket):
                    receive(self.back)
                    if not bucket.is_flat:
                        _give_back(bucket, buffer_V)
        except Exception as error:  # raised by finish
            self._error_back = error
        finally:
            self._under_way.release()
            self._complete_future(bucket)
        # Nothing is sent any more, so that nobody writes the sender's error.
        if last and self._error is None and self._error_back is None:
            try:
                with self._on_stream():
                    self.reducer.end(self.back)
            except Exception as error:  # raised by finish
                self._error_back = error

    def _reduce_whole(self) -> None:
        """Reduce all buckets together, in the thread of the exchange."""
        self.attendance.sign()
        self._answer(self._problem)
        waiting, self._waiting = self._waiting, []
        try:
            if self._error is None:
                with self._on_stream(*waiting):
                    self._reduce_together(waiting)
        except Exception as error:  # raised by finish
            self._error = error
        finally:
            for bucket in waiting:
                self._complete_future(bucket)

    def _reduce_together(self, waiting: Sequence[Bucket]) -> None:
        layout = self._layout
        if self._gradient_P is None:
            self._gradient_P = torch.zeros(layout.size, dtype=layout.dtype, device=self._device)
        gradient_P = self._gradient_P
        for bucket in waiting:
            for gradient, part in zip(bucket.gradients, bucket.slices, strict=True):
                gradient_P[part].view(gradient.shape).copy_(gradient)
        # A switch that errs may have written something there in the last reduction.
        layout.clear_padding(gradient_P)
        self.reducer.all_reduce(gradient_P, self.group)
        for bucket in waiting:
            for gradient, part in zip(bucket.gradients, bucket.slices, strict=True):
                gradient.copy_(gradient_P[part].view(gradient.shape))

    @contextmanager
    def _on_stream(self, *buckets: Bucket) -> Iterator[None]:
        """Work on the stream of the exchange, after the gradients of buckets are there."""
        on_stream = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with on_stream, torch.no_grad():
            for bucket in buckets:
                if self._stream is not None and bucket.ready is not None:
                    self._stream.wait_event(bucket.ready)
            yield

    def _complete_future(self, bucket: Bucket) -> None:
        # On CUDA a future notes the current stream, for which those who wait for it wait.
        with self._on_stream():
            bucket.future.set_result(bucket.buffer)

    def _table_of(self, bucket: Bucket) -> BlockTable:
        """Return the table of a bucket; DDP keeps few buckets, and keeps them for long."""
        assert isinstance(self.reducer, PartwiseReducer)
        key = (id(self.reducer), *(part.start for part in bucket.slices))
        if key not in self._tables:
            places, start = [], 0
            for part in bucket.slices:
                size = part.stop - part.start
                places.append(Place(start, part.start, size))
                start += size
            self._tables[key] = self.reducer.table_of(places)
        return self._tables[key]


def _ready(buffer: Tensor) -> torch.cuda.Event:
    """Return an event of the stream on which autograd fills a buffer."""
    event: torch.cuda.Event = torch.cuda.current_stream(buffer.device).record_event()
    return event


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _as_laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter as DDP has laid it out in its buffer.

    A buffer holds dense parameters in their order of memory (channels_last), although DDP's own
    views of it have the parameters' shapes in the usual order.
    """
    if parameter.is_contiguous() or not _is_dense(parameter):
        return gradient
    return gradient.as_strided(parameter.shape, parameter.stride())


def _is_dense(parameter: Tensor) -> bool:
    """Return whether the values fill their memory without gaps or overlaps, in whatever order."""
    sizes = zip(parameter.stride(), parameter.shape, strict=True)
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in sizes if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _flat(bucket: Bucket) -> Tensor:
    """Copy the gradients of a bucket, one after the other, each in the order of its indices."""
    return torch.cat([gradient.reshape(-1) for gradient in bucket.gradients])


def _give_back(bucket: Bucket, buffer_V: Tensor) -> None:
    parts = torch.split(buffer_V, [gradient.numel() for gradient in bucket.gradients])
    for gradient, part in zip(bucket.gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def exchange_groups(group: ServerGroup, device: torch.device) -> dict[str, ServerGroup]:
    """Return the groups that an exchange between servers needs, by the names of its arguments.

    A collective. On CUDA the second one calls the roll, whose answer must be read; elsewhere it
    receives results.
    """
    groups = {"group": group.twin()}
    if device.type == "cuda":
        return {**groups, "roll": group.twin(backend="gloo")}
    return {**groups, "back": group.twin()}
