"""The optical reduction: scale -> quantise -> encode -> P -> f -> receive -> decode (Fig. 3)."""

# Shape suffixes: N servers, P gradient values, V values of a part, B blocks, S bytes of a share.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.onn import zoo
from optinc.reducers.base import check_at_least_one
from optinc.reducers.blocks import CHUNK_BLOCKS, chunk_values, quantized_signals
from optinc.reducers.exchange import Exchange, Work
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels import reference
from optinc.reducers.kernels.choice import fused_kernels
from optinc.reducers.kernels.plan import Backend, ReductionPlan, Totals
from optinc.reducers.measures.signal_terms import Signal
from optinc.reducers.measures.traffic import (
    code_bytes,
    exchange_bytes,
    ring_bytes,
    sum_bytes,
)
from optinc.reducers.nonfinite import first_nonfinite, is_finite, refuses
from optinc.reducers.partwise import GroupwiseReducer, Part, Receive, sizes_of
from optinc.reducers.senders.senders import Rotation, Senders
from optinc.reducers.wire.packing import GROUP
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.outputs import ideal_average
from optinc.signal.rounding import Rounding
from optinc.signal.scenario import DEFAULT_ROUNDING, Downlink, Scenario, make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.single import TableSwitch

BackendName = Literal["auto", "eager", "fused"]


class OptINCReducer(GroupwiseReducer):
    """Averages the gradients of N servers through an optical switch.

    Args:
        quantizer: Float gradients <-> codes.
        switch: Codes of the servers -> the code that all receive.
        servers: Servers that send, at most the fan-in N of the switch; None for all inputs, or all
            servers connected to a cascade. Inputs without a server are dark: the switch emits
            Q(sum / N), and decoding multiplies by N / servers, so that the result is the mean over
            the servers in steps N / servers times as coarse. Where the whole sum comes back
            (``downlink=decimal``), the result is their exact mean, whatever their number.
        backend: ``fused`` kernels (numba on a CPU, Triton on CUDA), ``eager`` torch, which they
            equal bit for bit, or ``auto``: fused where there is a kernel.
        error_feedback: Whether servers add what their codes left out to their next gradient. The
            accounting then compares with the mean of what they meant to send.
        rotation: ``hadamard`` rotates whole blocks before they are quantised, or ``none``.
        clip: Root mean squares of its block beyond which a server clips a value; None does not.

    Attributes:
        senders: What the servers do beside quantising.

    Raises:
        ConfigurationError: If quantiser and switch disagree on the bits, or the switch has too few
            inputs for the servers, or zero would not be averaged to exactly zero.
    """

    def __init__(
        self,
        *,
        quantizer: BlockQuantizer,
        switch: OpticalSwitch,
        servers: int | None = None,
        backend: BackendName = "auto",
        error_feedback: bool = False,
        rotation: Rotation = "none",
        clip: float | None = None,
    ) -> None:
        if quantizer.bits != switch.scenario.bits:
            raise ConfigurationError(
                f"the quantiser has {quantizer.bits} bits, the switch {switch.scenario.bits}"
            )
        if backend not in ("auto", "eager", "fused"):
            raise ConfigurationError(
                f"reducer.backend must be auto | eager | fused, got {backend!r}"
            )
        connected = switch.servers if servers is None else servers
        _check_connected(connected, switch.scenario, zero=quantizer.zero)
        switch.check_servers(connected)
        super().__init__(servers=connected)
        self.quantizer = quantizer
        self.switch = switch
        self.backend = backend
        self.senders = Senders(
            quantizer, error_feedback=error_feedback, rotation=rotation, clip=clip
        )
        self._exchange = Exchange(self.senders)
        self._rows_totals, self._rows_values = Totals(), 0
        self._found: NonFiniteGradientError | None = None

    @property
    def propagates_nonfinite(self) -> bool:
        """See :meth:`Reducer.propagates_nonfinite`."""
        return self.quantizer.nonfinite == "propagate"

    @property
    def alignment(self) -> int:
        """See :meth:`Reducer.alignment`."""
        return self.quantizer.alignment

    def check_servers(self, servers: int) -> None:
        """See :meth:`Reducer.check_servers`.

        Raises:
            ConfigurationError: If the switch has fewer inputs, or Q(zero * servers / N) is not
                exact: zeros would then be averaged to something else.
        """
        _check_connected(servers, self.switch.scenario, zero=self.quantizer.zero)
        self.switch.check_servers(servers)

    @classmethod
    def from_zoo(
        cls,
        *,
        bits: int,
        servers: int,
        onn_inputs: int | Literal["auto"] = "auto",
        rounding: Rounding = DEFAULT_ROUNDING,
        downlink: Downlink = "quantised",
        approximation: Literal["none", "all", "table1"] = "all",
        onn: Path | str | None = None,
        cache: Path | str | None = None,
    ) -> OptINCReducer:
        """Build a reducer around a shipped ONN, by default of Table I's structure, tabulated.

        Args:
            bits: Bits B of a code.
            servers: Number of servers N.
            onn_inputs: ONN inputs K, ``auto`` for the paper's 4 or the nearest legal value below.
            rounding: The function Q of eq. (3); unused with the downlink ``decimal``.
            downlink: What comes back: the average ``quantised`` by Q, or with its ``decimal`` part.
            approximation: Layers in Sigma U form.
            onn: Name of another shipped ONN, or an artifact folder.
            cache: Folder for the truth table; None keeps it nowhere.

        Raises:
            ConfigurationError: If a value is illegal.
            MissingONNError: If no such ONN is shipped; names the command that trains it.

        Example:
            >>> import torch
            >>> from optinc import OptINCReducer
            >>> reducer = OptINCReducer.from_zoo(bits=8, servers=4)
            >>> gradients = torch.tensor([[0.5, -1.0], [0.5, 0.2], [0.1, 0.0], [0.1, 0.4]])
            >>> reducer(gradients)  # the exact mean is 0.3, -0.1
            tensor([ 0.2992, -0.1024])
            >>> reducer.accounting.onn_error_rate
            0.0
        """
        scenario = make_scenario(
            bits=bits,
            servers=servers,
            onn_inputs=onn_inputs,
            rounding=rounding,
            downlink=downlink,
        )
        trained = zoo.load(onn, scenario=scenario, hidden="table1", layers=approximation)
        return cls(quantizer=BlockQuantizer(bits=bits), switch=TableSwitch(trained, cache=cache))

    def describe(self) -> dict[str, str | float | None]:
        """See :meth:`Reducer.describe`; a chip tells its error rate too."""
        hashes = [card.weights_sha256 for card in self.switch.cards]
        return {
            "fidelity": self.switch.fidelity,
            "onn_sha256": "+".join(hashes) or None,
            **self.switch.describe(),
        }

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {
            **super().identity(),
            **self.switch.identity(),
            "quantizer": str(self.quantizer),
            **self.senders.identity(),
        }

    @property
    def feeds_back(self) -> bool:
        """See :meth:`Reducer.feeds_back`."""
        return self.senders.errors is not None

    def forget_parameters(self) -> None:
        """Forget the errors that are fed back."""
        if self.senders.errors is not None:
            self.senders.errors.forget()

    def server_state(self) -> dict[str, Tensor]:
        """Return the errors that are fed back, ``error`` [servers held, P], once there are some."""
        return {} if self.senders.errors is None else self.senders.errors.state()

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Reducer.load_server_state`; without error feedback, there is nothing to do."""
        if self.senders.errors is not None:
            self.senders.errors.load(state)

    @property
    def symbols(self) -> int:
        """See :meth:`Reducer.symbols`; 0 for an exact switch without an ONN, which cannot err."""
        cannot_be_wrong = self.switch.exact and not self.switch.cards
        return 0 if cannot_be_wrong else self.switch.scenario.received_symbols

    @property
    def replay_chunk(self) -> int:
        """See :meth:`Reducer.replay_chunk`; noise and drawn errors depend on it."""
        return chunk_values(self.quantizer.block_size)

    def replay(self, gradients_NP: Tensor, *, first: int = 0) -> Iterator[Signal]:
        """See :meth:`Reducer.replay`.

        Raises:
            ConfigurationError: If the errors of other processes' servers would be needed.
        """
        switch, reduction = self.switch, self.accounting.reductions
        if self.senders.active:
            if self.senders.errors is not None and self.senders.errors.held == 1 < self.servers:
                raise ConfigurationError(
                    "callbacks=signal_statistics with optinc.quantization.error_feedback=true "
                    "needs strategy=virtual_servers: a real server knows its own errors alone"
                )
            gradients_NP = gradients_NP.to(torch.float32, copy=True)
            self.senders.prepare(gradients_NP, self.layout, reduction=reduction, first=first)
        signals = quantized_signals(gradients_NP, self.quantizer, reduction=reduction, first=first)
        for signal in signals:
            if not self.symbols:
                yield signal
                continue
            place = first + signal.place.start
            yield replace(
                signal,
                received_P=switch(signal.codes_NP, reduction=reduction, first=place),
                ideal_P=ideal_average(signal.codes_NP, switch.scenario),
            )

    @property
    def plan(self) -> ReductionPlan:
        """The quantiser and switch settings that a kernel needs."""
        return ReductionPlan(self.quantizer, self.switch, self.servers)

    def _backend(self, gradients: Tensor) -> Backend:
        """Choose the kernels for the device of these gradients.

        Raises:
            ConfigurationError: If ``fused`` was asked for and no kernel supports the switch.
        """
        fused = None if self.backend == "eager" else fused_kernels(gradients.device.type, self.plan)
        if fused is None and self.backend == "fused":
            raise ConfigurationError(
                f"reducer.backend=fused has no kernel for optinc/fidelity={self.switch.fidelity} "
                f"with optinc.quantization.rounding={self.quantizer.rounding} on "
                f"{gradients.device.type}; use reducer.backend=auto"
            )
        return reference if fused is None else fused

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        """Reduce gradients [N, P] into [P] in one pass.

        Raises:
            NonFiniteGradientError: If a value is NaN or infinite (policy ``raise``).
            SkipStep: If a value is NaN or infinite (policy ``skip_step``).
        """
        totals = self.play(gradients_NP, out_P)
        self.conclude(*self.sizes(len(out_P)), totals, finite=not totals.nonfinite_blocks)
        self.accounting.reductions += 1

    def play(self, gradients_NP: Tensor, out_P: Tensor) -> Totals:
        """Run one reduction, of which nothing counts before :meth:`conclude`.

        Args:
            gradients_NP: Float tensor [N, P], with the padding of the layout.
            out_P: Float tensor [P] of the same dtype, written; may be a row of ``gradients_NP``,
                which is then overwritten.

        Returns:
            The totals for :meth:`conclude`.

        Raises:
            NonFiniteGradientError, SkipStep: As :meth:`forward`.
        """
        number, senders = self.accounting.reductions, self.senders
        rows_NP, reduced_P = gradients_NP, out_P
        if senders.active:
            rows_NP = gradients_NP.to(torch.float32, copy=True)
            senders.prepare(rows_NP, self.layout, reduction=number)
            reduced_P = rows_NP.new_empty(len(out_P))
        backend = self._backend(rows_NP)
        totals = backend.reduce(
            rows_NP, reduced_P, self.plan, reduction=number, lengths_B=self._lengths(rows_NP)
        )
        self.accounting.nonfinite_blocks += totals.nonfinite_blocks
        if refuses(totals.nonfinite_blocks, self.quantizer.nonfinite):
            # Finite gradients may exceed float32 once errors are added, or rotated.
            largest = self.quantizer.largest
            finite = bool(is_finite(gradients_NP, largest).all())
            found = first_nonfinite(rows_NP if finite else gradients_NP, largest=largest)
            server, position, value = found
            raise NonFiniteGradientError(server=server, position=position, value=value)
        if senders.active:
            senders.restore(reduced_P, self.layout, reduction=number)
            out_P.copy_(reduced_P)
            if not totals.nonfinite_blocks:
                scales_B = self.quantizer.scales(rows_NP)
                senders.settle(rows_NP, scales_B, self.layout, reduction=number)
        return totals

    def conclude(self, values: int, blocks: int, totals: Totals, *, finite: bool) -> None:
        """Add a reduction to the accounting, whose number of reductions the caller counts.

        Args:
            values: Values of the gradient, without padding.
            blocks: Its blocks.
            totals: What :meth:`play` returned.
            finite: Whether the whole gradient was; otherwise the errors that are fed back stay as
                they were, as the step will change nothing.
        """
        if finite:
            self.senders.commit()
        self._account(values, blocks, totals)

    def sizes(self, size: int) -> tuple[int, int]:
        """Return the values and the blocks of a gradient of ``size`` values, padding included."""
        return self._values_without_padding(size), -(-size // self.quantizer.block_size)

    def _lengths(self, rows_NG: Tensor, *, first: int = 0) -> Tensor | None:
        """Return how many values of each block are no padding; None where all are."""
        if self.layout is None:
            return None
        return self.layout.lengths(first=first, size=rows_NG.shape[1], device=rows_NG.device)

    def _reduce_rows(self, rows_NG: Tensor, out_G: Tensor, *, first: int) -> None:
        backend, number = self._backend(rows_NG), self.accounting.reductions
        lengths_B = self._lengths(rows_NG, first=first)
        totals = backend.reduce(
            rows_NG, out_G, self.plan, reduction=number, first=first, lengths_B=lengths_B
        )
        if totals.nonfinite_blocks and self.quantizer.nonfinite == "raise" and not self._found:
            found = first_nonfinite(rows_NG, largest=self.quantizer.largest)
            server, position, value = found
            self._found = NonFiniteGradientError(
                server=server, position=position + first, value=value
            )
        self._rows_totals += totals
        self._rows_values += len(out_G)

    def _end_rows(self) -> None:
        totals, self._rows_totals = self._rows_totals, Totals()
        values, self._rows_values = self._rows_values, 0
        found, self._found = self._found, None
        self.accounting.nonfinite_blocks += totals.nonfinite_blocks
        if refuses(totals.nonfinite_blocks, self.quantizer.nonfinite):
            assert found is not None
            raise found
        self._account(*self.sizes(values), totals)
        self.accounting.reductions += 1

    def _account(self, values: int, blocks: int, totals: Totals) -> None:
        """Add up values, blocks, errors and traffic."""
        accounting, bits, servers = self.accounting, self.quantizer.bits, self.servers
        scale_bytes = self.quantizer.scale_bytes
        sent = code_bytes(values=values, bits=bits, blocks=blocks, scale_bytes=scale_bytes)
        accounting.values += values
        accounting.blocks += blocks
        accounting.onn_errors += totals.wrong_codes
        if totals.expected_wrong is not None:
            expected = accounting.onn_errors_expected or 0.0
            accounting.onn_errors_expected = expected + totals.expected_wrong
        accounting.squared_error += totals.squared_error
        accounting.squared_mean += totals.squared_mean
        accounting.bytes_sent += sent
        accounting.bytes_optinc += sent
        accounting.bytes_optinc_received += code_bytes(
            values=values,
            bits=self.switch.scenario.received_bits,
            blocks=blocks,
            scale_bytes=scale_bytes,
        )
        accounting.bytes_ring += ring_bytes(values=values, servers=servers, bytes_per_value=4)
        accounting.bytes_ring_same_bits += ring_bytes(
            values=values, servers=servers, bytes_per_value=sent / values if values else 0
        )

    @property
    def by_parts(self) -> bool:
        """See :attr:`PartwiseReducer.by_parts`; blocks must end at the borders of parameters.

        Nor may the switch draw numbers for whole chunks of the gradient.
        """
        return self.quantizer.blocks == "parameter" and self.switch.by_position

    @property
    def by_groups(self) -> bool:
        """See :attr:`GroupwiseReducer.by_groups`; rotations and feedback take whole parameters."""
        return self.by_parts and not self.senders.active

    def describe_exchange(self, servers: int) -> str:
        """See :meth:`PartwiseReducer.describe_exchange`."""
        bits, received_bits = self.plan.bits, self.plan.received_bits
        scales = {
            "blocks": 1 / self.quantizer.block_size,
            "scale_bytes": self.quantizer.scale_bytes,
        }
        packed = exchange_bytes(
            values=1, servers=servers, bits=bits, received_bits=received_bits, **scales
        )
        summed = sum_bytes(values=1, servers=servers, bits=bits, **scales)
        floats = ring_bytes(values=1, servers=servers, bytes_per_value=4)
        when = "bucket by bucket" if self.by_parts else "once all gradients are known"
        return (
            f"each of {servers} servers sends {packed:.4g} bytes a value, {when}: codes of {bits} "
            f"bits by all-to-all, {received_bits} bits back by all-gather (sums of codes would "
            f"take {summed:.4g}, float32 {floats:.4g})"
        )

    def table_of(self, places: Sequence[Place]) -> BlockTable:
        """See :meth:`PartwiseReducer.table_of`."""
        size = self.quantizer.block_size
        # A share of whole chunks, each of which draws its numbers at once.
        unit = GROUP if self.switch.by_position else CHUNK_BLOCKS * -(-size // GROUP) * GROUP
        # Where parts are impossible, the whole gradient comes with the padding of the layout.
        padding = None if self.layout is None or self.by_parts else self.layout.padding
        return BlockTable(places, block_size=size, unit=unit, padding=padding)

    def _send_part(self, part: Part, group: ServerGroup) -> Receive:
        number = self.accounting.reductions
        work = Work(
            plan=self.plan,
            backend=self._backend(part.buffer_V),
            layout=self.layout,
            number=number,
            distance=self._distance(part.buffer_V) if self._measures else None,
        )
        return self._exchange.send(part, group, work)

    def _end(self, parts: Sequence[Part], group: ServerGroup) -> None:
        totals = self.gather(parts, group)
        self.accounting.measured += self._measures
        self.conclude(*sizes_of(parts), totals, finite=not totals.nonfinite_blocks)
        self.accounting.reductions += 1

    def gather(self, parts: Sequence[Part], group: ServerGroup) -> Totals:
        """Add up what the servers have counted in the parts of a reduction.

        Returns:
            The totals for :meth:`conclude`.

        Raises:
            NonFiniteGradientError, SkipStep: As :meth:`_reduce`, on all servers together.
        """
        try:
            totals = self._exchange.gather(group, self.plan)
            self.accounting.nonfinite_blocks += totals.nonfinite_blocks
            if refuses(totals.nonfinite_blocks, self.quantizer.nonfinite):
                raise self._exchange.first_nonfinite(parts, group, self.quantizer)
        finally:
            self._exchange.forget()
        return totals

    def forget_parts(self) -> None:
        """See :meth:`PartwiseReducer.forget_parts`."""
        super().forget_parts()
        self._exchange.forget()


def _check_connected(servers: int, scenario: Scenario, *, zero: int) -> None:
    """Refuse servers that the inputs N of a switch do not fit, or whose zeros average to no code.

    Raises:
        ConfigurationError: Names the legal numbers of servers.
    """
    fan_in = scenario.servers
    if servers > fan_in:
        raise ConfigurationError(
            f"{servers} servers do not fit a switch with optinc.servers={fan_in} inputs; "
            f"use an ONN with optinc.servers={servers}"
        )
    check_at_least_one(servers)
    if zero * servers % scenario.average_divisor:
        legal = [n for n in range(1, fan_in + 1) if not zero * n % fan_in]
        raise ConfigurationError(
            f"{servers} servers on a switch with optinc.servers={fan_in} inputs: the average of "
            f"zeros, {zero} * {servers} / {fan_in}, is no integer code; legal numbers of servers: "
            f"{legal}, or any with optinc.downlink=decimal"
        )
