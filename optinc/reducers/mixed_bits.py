"""Two switches of different bits: the second one for few parameters that need more."""

# Shape suffixes: N servers, P gradient values, Q of them through one switch, V values of a part.

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, final

import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels.plan import Totals
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import Part, PartwiseReducer, Receive, sizes_of
from optinc.reducers.wire.table import BlockTable, Place


class _SplitTable(BlockTable):
    """A table that knows which of its parameters go through which switch.

    Attributes:
        shares: For every reducer with parameters here their places in this buffer, and the table of
            a buffer of their own.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        block_size: int,
        shares: Sequence[tuple[OptINCReducer, list[Place], BlockTable]],
    ) -> None:
        super().__init__(places, block_size=block_size)
        self.shares = shares


@final
class MixedBitsReducer(PartwiseReducer):
    """Averages most parameters through one switch, and chosen ones through another at more bits.

    Norms and biases are few values, and each of them acts on many activations. A server sends to
    both switches, so that the few parameters cost their bits and nothing else.

    Args:
        coarse: Averages all parameters that are not chosen.
        fine: Averages the chosen ones; has the same blocks and policy for non-finite values.
        patterns: Shell patterns of the names of chosen parameters, such as ``*norm*``.
        max_dims: Parameters with at most so many dimensions are chosen too; 0 chooses none so.
        servers: Servers that send, to both switches; None takes what both reducers say.

    Raises:
        ConfigurationError: If no parameter can be chosen, or the reducers do not fit together.
    """

    def __init__(
        self,
        *,
        coarse: OptINCReducer,
        fine: OptINCReducer,
        patterns: Sequence[str] = (),
        max_dims: int = 1,
        servers: int | None = None,
    ) -> None:
        _check_choice(patterns, max_dims)
        _check_pair(coarse, fine)
        super().__init__(servers=coarse.servers if servers is None else servers)
        self.coarse = coarse
        self.fine = fine
        self.patterns = tuple(patterns)
        self.max_dims = max_dims
        self._shares: list[tuple[OptINCReducer, list[slice]]] = []
        self._split: list[tuple[OptINCReducer, Part]] = []
        if servers is None and fine.servers != coarse.servers:
            raise ConfigurationError(
                f"{coarse.servers} servers send to reducer.coarse, {fine.servers} to "
                "reducer.fine; reducer.servers sets both"
            )
        self.connect(self.servers)
        # One number of the reduction, and one sum of everything else.
        coarse.accounting = fine.accounting = self.accounting

    @property
    def propagates_nonfinite(self) -> bool:
        """See :meth:`Reducer.propagates_nonfinite`."""
        return self.coarse.propagates_nonfinite

    @property
    def alignment(self) -> int:
        """See :meth:`Reducer.alignment`."""
        return self.coarse.alignment

    @property
    def feeds_back(self) -> bool:
        """See :meth:`Reducer.feeds_back`."""
        return self.coarse.feeds_back or self.fine.feeds_back

    def connect(self, servers: int) -> None:
        """See :meth:`Reducer.connect`."""
        self.coarse.connect(servers)
        self.fine.connect(servers)
        self.servers = servers

    def chooses(self, name: str, shape: torch.Size) -> bool:
        """Return whether a parameter is sent to the fine switch."""
        return len(shape) <= self.max_dims or any(fnmatchcase(name, p) for p in self.patterns)

    def lay_out(self, shapes: Sequence[torch.Size], names: Sequence[str] = ()) -> None:
        """See :meth:`Reducer.lay_out`.

        Raises:
            ConfigurationError: If the names are missing, or a pattern or all settings choose none.
        """
        if len(names) != len(shapes):
            raise ConfigurationError(
                "reducer=mixed_bits chooses parameters by their names, which FSDP does not give: "
                "use strategy=virtual_servers or ddp, DistributedDataParallel, or "
                "lay_out(shapes, names)"
            )
        super().lay_out(shapes, names)
        _check_matches(self.patterns, names)
        chosen = [self.chooses(name, shape) for name, shape in zip(names, shapes, strict=True)]
        if not any(chosen):
            raise ConfigurationError(
                f"reducer.max_dims={self.max_dims} chooses no parameter of this model; "
                "reducer=optinc has one switch for all"
            )
        assert self.layout is not None
        self._shares = []
        for reducer, is_fine in ((self.coarse, False), (self.fine, True)):
            mine = [place for place, each in enumerate(chosen) if each == is_fine]
            reducer.lay_out([shapes[k] for k in mine], [names[k] for k in mine])
            if mine:
                self._shares.append((reducer, [self.layout.slices[k] for k in mine]))

    def forget_parameters(self) -> None:
        """See :meth:`Reducer.forget_parameters`."""
        self.coarse.forget_parameters()
        self.fine.forget_parameters()

    def describe(self) -> dict[str, str | float | None]:
        """See :meth:`Reducer.describe`; names of the fine switch begin with ``fine_``."""
        fine = {f"fine_{name}": value for name, value in self.fine.describe().items()}
        return {**self.coarse.describe(), "fine_bits": self.fine.quantizer.bits, **fine}

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {
            **super().identity(),
            "coarse": self.coarse.identity(),
            "fine": self.fine.identity(),
            "patterns": list(self.patterns),
            "max_dims": self.max_dims,
        }

    def server_state(self) -> dict[str, Tensor]:
        """Return the states of both reducers, whose names begin with ``coarse_`` and ``fine_``."""
        return {
            f"{which}_{name}": value
            for which, reducer in self._both()
            for name, value in reducer.server_state().items()
        }

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Reducer.load_server_state`."""
        for which, reducer in self._both():
            mine = {
                name.removeprefix(f"{which}_"): value
                for name, value in state.items()
                if name.startswith(f"{which}_")
            }
            reducer.load_server_state(mine)

    def _both(self) -> tuple[tuple[str, OptINCReducer], ...]:
        return ("coarse", self.coarse), ("fine", self.fine)

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        """Reduce through both switches; neither's errors count before both have succeeded.

        Raises:
            ConfigurationError: If :meth:`lay_out` was not called.
            NonFiniteGradientError, SkipStep: See :class:`OptINCReducer`.
        """
        self._check_laid_out()
        done: list[tuple[OptINCReducer, int, int, Totals]] = []
        for reducer, places in self._shares:
            assert reducer.layout is not None
            rows_NQ = gradients_NP.new_zeros(len(gradients_NP), reducer.layout.size)
            for mine, place in zip(reducer.layout.slices, places, strict=True):
                rows_NQ[:, mine] = gradients_NP[:, place]
            try:
                totals = reducer.play(rows_NQ, rows_NQ[0])
            except NonFiniteGradientError as error:
                raise error.at(_position(error.position, reducer, places)) from None
            done.append((reducer, *reducer.sizes(rows_NQ.shape[1]), totals))
            for mine, place in zip(reducer.layout.slices, places, strict=True):
                out_P[place] = rows_NQ[0, mine]
        self._conclude(done)

    @property
    def by_parts(self) -> bool:
        """See :attr:`PartwiseReducer.by_parts`."""
        return self.coarse.by_parts and self.fine.by_parts

    def describe_exchange(self, servers: int) -> str:
        """See :meth:`PartwiseReducer.describe_exchange`."""
        coarse, fine = (each.describe_exchange(servers) for _, each in self._both())
        return f"{coarse}; for the chosen parameters {fine}"

    def table_of(self, places: Sequence[Place]) -> BlockTable:
        """See :meth:`PartwiseReducer.table_of`.

        Raises:
            ConfigurationError: If a switch needs the whole gradient.
        """
        self._check_laid_out()
        if not self.by_parts:
            raise ConfigurationError(
                "reducer=mixed_bits between processes needs switches without noise or drawn "
                "errors (optinc/fidelity=ideal or table); use strategy=virtual_servers"
            )
        shares: list[tuple[OptINCReducer, list[Place], BlockTable]] = []
        for reducer, slices in self._shares:
            assert reducer.layout is not None
            positions = {
                place.start: mine.start
                for place, mine in zip(slices, reducer.layout.slices, strict=True)
                if place.start < place.stop
            }
            here = [place for place in places if place.size and place.position in positions]
            own, start = [], 0
            for place in here:
                own.append(Place(start, positions[place.position], place.size))
                start += place.size
            if here:
                shares.append((reducer, here, reducer.table_of(own)))
        return _SplitTable(places, block_size=self.alignment, shares=shares)

    def forget_parts(self) -> None:
        """See :meth:`PartwiseReducer.forget_parts`."""
        super().forget_parts()
        self._split = []
        for _, reducer in self._both():
            reducer.forget_parts()

    def _send_part(self, part: Part, group: ServerGroup) -> Receive:
        """Send the parameters of both switches in buffers of their own."""
        assert isinstance(part.table, _SplitTable)
        sent: list[tuple[list[Tensor], Part, Receive]] = []
        for reducer, places, table in part.table.shares:
            views = [part.buffer_V[place.start : place.start + place.size] for place in places]
            own = Part(torch.cat(views), table)
            reducer.error_every = self.error_every
            sent.append((views, own, reducer._send_part(own, group)))
            self._split.append((reducer, own))

        def receive_both(group: ServerGroup) -> None:
            for views, own, receive in sent:
                receive(group)
                for view, (_, values) in zip(views, own.table.pieces(own.buffer_V), strict=True):
                    view.copy_(values)

        return receive_both

    def _end(self, parts: Sequence[Part], group: ServerGroup) -> None:
        """Gather the counts of both switches; neither's errors count before both have succeeded."""
        split, self._split = self._split, []
        done: list[tuple[OptINCReducer, int, int, Totals]] = []
        try:
            for reducer, places in self._shares:
                own = [part for each, part in split if each is reducer]
                try:
                    totals = reducer.gather(own, group)
                except NonFiniteGradientError as error:
                    raise error.at(_position(error.position, reducer, places)) from None
                done.append((reducer, *sizes_of(own), totals))
        except Exception:
            self.forget_parts()
            raise
        self.accounting.measured += self._measures
        self._conclude(done)

    def _conclude(self, done: Sequence[tuple[OptINCReducer, int, int, Totals]]) -> None:
        """Let the work of both switches count."""
        finite = not any(totals.nonfinite_blocks for *_, totals in done)
        for reducer, values, blocks, totals in done:
            reducer.conclude(values, blocks, totals, finite=finite)
        self.accounting.reductions += 1

    def _check_laid_out(self) -> None:
        if not self._shares:
            raise ConfigurationError(
                "reducer=mixed_bits chooses parameters by their names: call lay_out(shapes, "
                "names) before the first reduction"
            )


def _position(position: int, reducer: OptINCReducer, places: Sequence[slice]) -> int:
    """Return a position in one reducer's gradient as one in the whole gradient."""
    assert reducer.layout is not None
    for mine, place in zip(reducer.layout.slices, places, strict=True):
        if mine.start <= position < mine.stop:
            return int(place.start + position - mine.start)
    raise AssertionError("padding is finite")


def _check_choice(patterns: Sequence[str], max_dims: int) -> None:
    if isinstance(patterns, str) or any(not each for each in patterns):
        raise ConfigurationError(
            f"reducer.patterns must be a list of names such as ['*norm*'], got {patterns!r}"
        )
    if max_dims < 0:
        raise ConfigurationError(f"reducer.max_dims must be at least 0, got {max_dims}")
    if not patterns and not max_dims:
        raise ConfigurationError(
            "reducer.patterns=[] and reducer.max_dims=0 choose no parameter; reducer=optinc has "
            "one switch for all"
        )


def _check_matches(patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(
                f"reducer.patterns: {pattern!r} matches no parameter; the first ones are "
                f"{', '.join(names[:3])}"
            )


def _check_pair(coarse: OptINCReducer, fine: OptINCReducer) -> None:
    bits = coarse.quantizer.bits, fine.quantizer.bits
    if bits[1] <= bits[0]:
        raise ConfigurationError(
            f"reducer.fine.quantizer.bits must be more than optinc.bits={bits[0]}, got {bits[1]}"
        )
    for name in ("block_size", "blocks", "nonfinite"):
        values = getattr(coarse.quantizer, name), getattr(fine.quantizer, name)
        if values[0] != values[1]:
            raise ConfigurationError(
                f"reducer.fine.quantizer.{name} must be that of reducer.coarse, {values[0]}, "
                f"got {values[1]}"
            )
    if coarse.quantizer.blocks != "parameter":
        raise ConfigurationError(
            "reducer=mixed_bits needs optinc.quantization.blocks=parameter: a block must not hold "
            "values of both switches"
        )
