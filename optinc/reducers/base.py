"""The contract of a reducer: gradients of N servers in, one gradient out."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Protocol
from zlib import crc32

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.reducers.group import ServerGroup
from optinc.reducers.layout import GradientLayout
from optinc.reducers.measures.accounting import Accounting
from optinc.reducers.measures.error import mean_of_samples, sample_distance, sampled_error
from optinc.reducers.measures.signal_terms import Signal

ERROR_EVERY = 50
"""Reductions from one measurement of the error to the next, where samples have to be sent."""


class Observer(Protocol):
    """Watches every reduction without changing it, outside the accounted time.

    Its methods may call collectives, so all servers must observe equal reductions. It sees
    gradients as they are reduced: with the padding of the reducer's ``layout``, if that has any.
    """

    def before(self, reducer: Reducer, gradients: Tensor, group: ServerGroup | None) -> None:
        """See the gradients before they are overwritten.

        Args:
            reducer: The reducer that is about to run.
            gradients: Float tensor [N, P], or [P] of this server where there is a group.
            group: The real servers; None where this process holds all of them.
        """

    def after(self, reduced_P: Tensor, group: ServerGroup | None) -> None:
        """See the reduced gradient [P]; not called where the reduction raised an error."""


class Reducer(nn.Module, ABC):
    """Averages the flat gradients of ``servers`` servers.

    A plain module: no Lightning, no Hydra. Called with the gradients of N virtual servers it needs
    no process group either; :meth:`all_reduce` runs the reduction between N real processes.

    Attributes:
        accounting: Totals over all reductions.
        observer: Watches every reduction while it is set; None by default.
        error_every: Real servers measure the error of every so many reductions, on a sample that
            they send as floats; 0 measures none. Virtual servers measure every reduction.
        layout: Places of the parameters in the gradient; None before :meth:`lay_out`.

    Args:
        servers: Number of servers N, at least 1.

    Raises:
        ConfigurationError: If ``servers`` is less than 1.
    """

    def __init__(self, *, servers: int) -> None:
        super().__init__()
        self.accounting = Accounting()
        self.observer: Observer | None = None
        self.layout: GradientLayout | None = None
        self.error_every = ERROR_EVERY
        check_at_least_one(servers)
        self.servers = servers

    @property
    def propagates_nonfinite(self) -> bool:
        """Whether NaN and infinity reach the reduced gradient, as loss scaling needs."""
        return True

    @property
    def feeds_back(self) -> bool:
        """Whether errors of the whole gradient are kept and added to the next one."""
        return False

    def connect(self, servers: int) -> None:
        """Set the number of servers that send gradients.

        Raises:
            ConfigurationError: If this reducer cannot average the gradients of ``servers`` servers.
        """
        self.check_servers(servers)
        self.servers = servers

    def check_servers(self, servers: int) -> None:
        """Refuse a number of servers that this reducer cannot average; changes nothing.

        Raises:
            ConfigurationError: Names the legal numbers.
        """
        check_at_least_one(servers)

    @property
    def alignment(self) -> int:
        """Multiple at which every parameter begins in a gradient with padding; 1 without padding.

        Reducers whose blocks end at the borders of parameters return their block size.
        """
        return 1

    def lay_out(self, shapes: Sequence[torch.Size], names: Sequence[str] = ()) -> None:
        """Learn shapes and names of the parameters whose gradients make up [P], in flat order.

        Without it a gradient is one flat tensor. With it, gradients hold the values of these
        parameters: either one after the other, or, which saves copies, with the padding of
        :attr:`layout`. Strategies call it before the first reduction; reducers that compress every
        matrix on its own need it. Names are needed by reducers that choose parameters by them.
        """
        self.layout = GradientLayout([prod(shape) for shape in shapes], alignment=self.alignment)

    def forget_parameters(self) -> None:
        """Forget what belongs to single values of [P], such as the errors that are fed back.

        Strategies call it before :meth:`lay_out` where other parameters than before make up [P].
        """

    def forward(self, gradients_NP: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Reduce the gradients of all servers, held by this process, to one.

        Args:
            gradients_NP: Float tensor [N, P], one row per server.
            out: Float tensor [P] of the same dtype and device for the result; it may be a row of
                ``gradients_NP``, which is then overwritten. None allocates one.

        Returns:
            ``out``, or a new float tensor [P] of the same dtype and device.

        Raises:
            ValueError: If the shape is not [servers, P] or the dtype is not floating point.
            ConfigurationError: If P does not fit the shapes given to :meth:`lay_out`.
            NonFiniteGradientError, SkipStep: See :class:`optinc.reducers.optinc.OptINCReducer`;
                ``out`` may already hold results of finite blocks.
        """
        if gradients_NP.ndim != 2 or gradients_NP.shape[0] != self.servers:
            raise ValueError(
                f"expected gradients of shape [{self.servers}, P] (one row per server), "
                f"got {list(gradients_NP.shape)}"
            )
        _check_float(gradients_NP)
        out_P = torch.empty_like(gradients_NP[0]) if out is None else out
        before = self.accounting.reductions
        with self._padded(gradients_NP, out_P) as (rows_NP, row_P):
            self._observed(lambda: self._reduce(rows_NP, row_P), rows_NP, row_P, None)
        self.accounting.measured += self.accounting.reductions - before
        return out_P

    def all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> Tensor:
        """Reduce the gradients of real servers, each calling with its own gradient.

        The result is equal on all servers, and equals :meth:`forward` on the gradients of all
        servers as rows in rank order: bit for bit where the reducer adds integers, otherwise up to
        the order in which the group adds floats, which matters from three servers on.

        Args:
            gradient_P: Float tensor [P], the gradient of this server; overwritten by the result.
            group: The servers.

        Returns:
            ``gradient_P``.

        Raises:
            ValueError: If the shape is not [P], the dtype is not floating point, or the group does
                not have ``servers`` members.
            ConfigurationError: If P does not fit the shapes given to :meth:`lay_out`.
            NonFiniteGradientError, SkipStep: Raised on all servers together.
        """
        if gradient_P.ndim != 1:
            raise ValueError(f"expected a gradient of shape [P], got {list(gradient_P.shape)}")
        if group.size != self.servers:
            raise ValueError(f"the group has {group.size} servers, the reducer {self.servers}")
        _check_float(gradient_P)
        with self._padded(gradient_P, gradient_P) as (row_P, out_P):
            assert row_P is out_P
            self._observed(lambda: self._metered(row_P, group), row_P, row_P, group)
        return gradient_P

    def replay(self, gradients_NP: Tensor, *, first: int = 0) -> Iterator[Signal]:
        """Yield the signals of the next reduction without reducing.

        Changes no state of the reducer and no random state.

        Args:
            gradients_NP: Float tensor [N, P], a part of the gradients of all servers, with padding.
            first: Position of its first value in the whole gradient, a multiple of
                :attr:`replay_chunk`.

        Returns:
            Signals that together cover [P] in ascending order; none for reducers without codes.
        """
        return iter(())

    @property
    def replay_chunk(self) -> int:
        """Values of one part of :meth:`replay`."""
        return 1 << 16

    @property
    def symbols(self) -> int:
        """PAM4 symbols M that servers receive for a value; 0 where :meth:`replay` has none."""
        return 0

    def describe(self) -> dict[str, str | float | None]:
        """Return the fidelity of the switch and the hash of its ONN; None where there is none."""
        return {"fidelity": None, "onn_sha256": None}

    def identity(self) -> dict[str, Any]:
        """Return the settings that all servers of a group must agree on, as plain values."""
        return {"reducer": type(self).__name__, "servers": self.servers, **self.describe()}

    def server_state(self) -> dict[str, Tensor]:
        """Return the state of the servers in this process: tensors [servers held, ...].

        The first dimension is N with virtual servers, 1 in a real server. Checkpoints keep the
        state of all N servers, so that either strategy can load them.
        """
        return {}

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`server_state`, of as many servers as this process holds."""

    def shared_state(self) -> dict[str, Any]:
        """Return the state shared by all servers, tensors and plain values, for a checkpoint."""
        return {}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`shared_state`."""

    @abstractmethod
    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        """Reduce valid gradients [N, P] into [P] and update :attr:`accounting` except its time.

        ``out_P`` may be a row of ``gradients_NP``.
        """

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        """Reduce a valid gradient [P] in place.

        By default every server gathers all gradients, at N times the memory and traffic, and
        reduces them itself: right for every reducer whose result is a function of the rows.
        """
        self._reduce(group.all_gather(gradient_P), gradient_P)

    @property
    def _measures(self) -> bool:
        """Whether real servers measure the error of the next reduction.

        One of every ``error_every``, the first and then any of them: where a step has several
        reductions (units of FSDP, several optimisers), all of them take their turn.
        """
        every, number = self.error_every, self.accounting.reductions
        if not every:
            return False
        window, place = divmod(number, every)
        # Evenly spread, equal on all servers and after a resume.
        return place == (crc32(window.to_bytes(8, "little")) % every if window else 0)

    def _sample(self, gradient_P: Tensor, group: ServerGroup) -> Tensor | None:
        """Return the exact mean of a sample of this reduction; None where none is measured."""
        if not self._measures:
            return None
        return mean_of_samples(gradient_P, group, distance=self._distance(gradient_P))

    def _add_sampled_error(self, mean: Tensor | None, reduced_P: Tensor) -> None:
        """Account for the error of a reduction that :meth:`_sample` has begun to measure."""
        if mean is not None:
            error, square = sampled_error(
                mean, reduced_P, distance=self._distance(reduced_P)
            ).tolist()
            self.accounting.measured += 1
            self.accounting.squared_error += error
            self.accounting.squared_mean += square

    def _distance(self, gradient_P: Tensor) -> int:
        return sample_distance(len(gradient_P) if self.layout is None else self.layout.values)

    def _values_without_padding(self, size: int) -> int:
        """Return how many of ``size`` values are values of parameters."""
        return size if self.layout is None else min(size, self.layout.values)

    @contextmanager
    def _padded(self, gradients: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Give gradients [..., P] and the result [P] the padding of the layout, if they have none.

        Raises:
            ConfigurationError: If P does not fit the layout.
            NonFiniteGradientError: The block's own, with its position among the parameters' values.
        """
        layout, size = self.layout, gradients.shape[-1]
        if layout is None:
            yield gradients, out
            return
        if size not in (layout.values, layout.size):
            raise ConfigurationError(
                f"the shapes given to lay_out have {layout.values} values ({layout.size} with "
                f"padding), the gradient {size}"
            )
        with self._indexed():
            if size == layout.size or not self._needs_padding(gradients, out):
                yield gradients, out
            else:
                padded = layout.pad(gradients)
                out_P = padded if gradients is out else padded.new_empty(layout.size)
                yield padded, out_P
                layout.unpad(out_P, out)

    def _needs_padding(self, gradients: Tensor, out: Tensor) -> bool:
        """Whether :meth:`_padded` must lay gradients out anew."""
        return True

    @contextmanager
    def _indexed(self) -> Iterator[None]:
        """Give errors the position among the parameters' values in place of that with padding."""
        try:
            yield
        except NonFiniteGradientError as error:
            if self.layout is None:
                raise
            raise error.at(self.layout.index(error.position)) from None

    def _metered(self, gradient_P: Tensor, group: ServerGroup) -> None:
        """Reduce, and account for the collectives."""
        seconds, sent = group.meter.seconds, group.meter.bytes
        try:
            self._all_reduce(gradient_P, group)
        finally:
            group.meter.settle()
            self.accounting.seconds_waiting += group.meter.seconds - seconds
            self.accounting.bytes_collectives += group.meter.bytes - sent

    def _observed(
        self,
        reduction: Callable[[], None],
        gradients: Tensor,
        out_P: Tensor,
        group: ServerGroup | None,
    ) -> None:
        if self.observer is not None:
            self.observer.before(self, gradients, group)
        self._timed(reduction, out_P)
        if self.observer is not None:
            self.observer.after(out_P, group)

    def _timed(self, reduction: Callable[[], None], out_P: Tensor) -> None:
        start = time.perf_counter()
        with torch.no_grad():
            reduction()
            if out_P.is_cuda:
                # Kernels run asynchronously: without waiting, the time would be that of the launch.
                torch.cuda.synchronize(out_P.device)
        self.accounting.seconds += time.perf_counter() - start


def check_at_least_one(servers: int) -> None:
    """Refuse fewer than one server.

    Raises:
        ConfigurationError: If ``servers`` is less than 1.
    """
    if servers < 1:
        raise ConfigurationError(f"servers must be at least 1, got {servers}")


def _check_float(gradients: Tensor) -> None:
    if not gradients.is_floating_point():
        raise ValueError(f"expected floating-point gradients, got {gradients.dtype}")
