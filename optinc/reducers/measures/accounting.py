"""Running totals of a reducer: blocks, errors, bytes and seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import sqrt


@dataclass
class Accounting:
    """Running totals over all reductions of one run; plain numbers, so they fit in a checkpoint.

    Attributes:
        reductions: Calls of the reducer.
        values: Gradient values reduced, per server; padding at the borders of parameters is
            counted neither here nor in any error below.
        blocks: Quantiser blocks reduced.
        nonfinite_blocks: Blocks in which some server sent NaN or infinity.
        onn_errors: Values whose received code differs from the ideal quantised average.
        onn_errors_expected: How many of them a tabulated chip makes on average of the inputs that
            it met; None without such a chip.
        measured: Reductions whose error was measured: all of virtual servers, every 50th of real
            ones (``strategy.error_every``), which have to send samples for it.
        squared_error: Sum of (reduced - exact mean)^2 over the finite blocks of these, for large
            gradients of real servers over evenly spaced ones.
        squared_mean: Sum of (exact mean)^2 over the same.
        bytes_sent: Bytes one server sends with the reducer in use, by :mod:`.traffic`.
        bytes_optinc: Bytes one server sends through the switch: codes and block scales.
        bytes_optinc_received: Bytes one server receives from the switch: as many as it sends, or
            more where decimal parts come back. 0 for other reducers.
        bytes_ring: Bytes one server sends in a ring all-reduce of float32 gradients, 2(N-1)/N.
        bytes_ring_same_bits: Bytes one server sends in a ring all-reduce of OptINC's B-bit codes
            and scales (Fig. 6).
        bytes_collectives: Bytes that this server sent to others by collectives, in place of light.
            Contains the samples that measure the error, not what torch's own hooks (fp16, bf16,
            powersgd) exchange. 0 for virtual servers.
        seconds: Wall time spent inside the reducer; between processes that of sending and that of
            receiving, which overlap, added up.
        seconds_waiting: The part of it inside these collectives: waiting for other servers, and
            sending. The rest is work.
    """

    reductions: int = 0
    values: int = 0
    blocks: int = 0
    nonfinite_blocks: int = 0
    onn_errors: int = 0
    onn_errors_expected: float | None = None
    measured: int = 0
    squared_error: float = 0.0
    squared_mean: float = 0.0
    bytes_sent: float = 0.0
    bytes_optinc: float = 0.0
    bytes_optinc_received: float = 0.0
    bytes_ring: float = 0.0
    bytes_ring_same_bits: float = 0.0
    bytes_collectives: float = 0.0
    seconds: float = 0.0
    seconds_waiting: float = 0.0

    @property
    def quantization_error(self) -> float:
        """Relative L2 error of the reduced gradients against their exact mean."""
        return sqrt(self.squared_error / self.squared_mean) if self.squared_mean > 0 else 0.0

    @property
    def onn_error_rate(self) -> float:
        """Share of values where the switch differs from the ideal quantised average."""
        return self.onn_errors / self.values if self.values else 0.0

    def state_dict(self) -> dict[str, float]:
        """Return the totals that there are as plain numbers."""
        return {name: total for name, total in asdict(self).items() if total is not None}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from totals saved by :meth:`state_dict`."""
        for field in fields(self):
            # A checkpoint from before a total was introduced does not hold it.
            setattr(self, field.name, state.get(field.name, field.default))

    def summary(self) -> dict[str, float | None]:
        """Return the quantities that ``summary.json`` and the loggers carry, by name.

        What a reducer does not count (a user's own, say) is None, not a perfect 0.
        """
        totals: dict[str, float | None] = {
            "blocks": self.blocks,
            "nonfinite_blocks": self.nonfinite_blocks,
            "bytes_sent": self.bytes_sent,
            "bytes_collectives": self.bytes_collectives,
            "reducer_seconds_waiting": self.seconds_waiting,
            "bytes_optinc": self.bytes_optinc,
            "bytes_optinc_received": self.bytes_optinc_received,
            "bytes_ring": self.bytes_ring,
            "bytes_ring_same_bits": self.bytes_ring_same_bits,
        }
        if not self.reductions:
            totals = {name: value or None for name, value in totals.items()}
        return {
            "reducer_seconds": self.seconds,
            "quantization_error": self.quantization_error if self._was_measured else None,
            "onn_error_rate": self.onn_error_rate if self.reductions else None,
            **self._expectation(),
            **totals,
        }

    @property
    def _was_measured(self) -> bool:
        # A checkpoint from before measurements were counted holds their sums alone.
        return self.measured > 0 or self.squared_mean > 0

    def _expectation(self) -> dict[str, float | None]:
        """Return the rate that a chip's noise leads to, and how far a run may be from it."""
        if self.onn_errors_expected is None or not self.values:
            return {}
        # Wrong codes are independent, and rare ones are Poisson; others scatter less.
        return {
            "onn_error_rate_expected": self.onn_errors_expected / self.values,
            "onn_error_rate_standard_error": sqrt(self.onn_errors_expected) / self.values,
        }
