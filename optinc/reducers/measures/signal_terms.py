"""Statistics of a reduction for each group of parameters: counts per value, sums and ratios.

All functions are pure. *Terms* [C, P] hold the C counts of every value; *totals* [G, C] are their
sums over the values of each group, and add up over parts of the gradient and over servers.
"""

# Shape suffixes: N servers, P gradient values, G groups, C counted quantities, M symbols.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from optinc.signal import pam4

ERROR_COLUMNS = ("finite", "squared_mean", "squared_error")
CODE_COLUMNS = ("codes", "codes_at_zero", "codes_at_full_scale")
SWITCH_COLUMNS = ("received", "wrong_codes")
"""Columns of received codes, followed by M columns of wrong symbols."""

COLUMNS = ERROR_COLUMNS + CODE_COLUMNS + SWITCH_COLUMNS


@dataclass(frozen=True)
class Signal:
    """Codes sent and received for a part of the gradient.

    Attributes:
        place: Slice of the gradients [N, P] that the part is.
        codes_NP: int32 tensor [N, P], the codes that the servers sent.
        usable_P: bool tensor [P], False in blocks with NaN or infinity, whose codes mean nothing.
        zero: Code of 0.0.
        qmax: Largest distance of a code from ``zero``.
        received_P: int32 tensor [P], the codes that all servers received; None where no switch
            that can be wrong has averaged the codes.
        ideal_P: int32 tensor [P], the quantised average of eq. (3); None where ``received_P`` is.
    """

    place: slice
    codes_NP: Tensor
    usable_P: Tensor
    zero: int
    qmax: int
    received_P: Tensor | None = None
    ideal_P: Tensor | None = None


def error_terms(mean_P: Tensor, reduced_P: Tensor) -> Tensor:
    """Return the terms of the error of a reduction, 0 for non-finite values.

    Args:
        mean_P: Float tensor [P], the exact mean over the servers.
        reduced_P: Float tensor [P], the reduced gradient.

    Returns:
        float64 tensor [3, P], the rows of :data:`ERROR_COLUMNS`.
    """
    # The squares of gradients beyond 1e19 or below 1e-23 leave float32.
    mean_P, reduced_P = mean_P.to(torch.float64), reduced_P.to(torch.float64)
    finite_P = torch.isfinite(mean_P) & torch.isfinite(reduced_P)
    mean_P, error_P = mean_P.where(finite_P, 0.0), (reduced_P - mean_P).where(finite_P, 0.0)
    return torch.stack([finite_P.to(torch.float64), mean_P.square(), error_P.square()])


def code_terms(signal: Signal) -> Tensor:
    """Count codes, codes of 0.0, and codes of plus or minus a block's scale: int64 [3, P]."""
    distance_NP = (signal.codes_NP - signal.zero).abs_()
    sent_P = torch.full_like(signal.usable_P, signal.codes_NP.shape[0], dtype=torch.int64)
    at_zero_P, at_full_scale_P = (distance_NP == 0).sum(0), (distance_NP == signal.qmax).sum(0)
    return torch.stack([sent_P, at_zero_P, at_full_scale_P]) * signal.usable_P


def switch_terms(signal: Signal, *, symbols: int) -> Tensor:
    """Count received codes, wrong codes and wrong symbols: int64 [2 + M, P].

    A wrong code differs from the quantised average of eq. (3). Symbols follow eq. (2), most
    significant first. All counts are 0 where no switch that can be wrong has averaged the codes.
    """
    shape = (len(SWITCH_COLUMNS) + symbols, len(signal.usable_P))
    if signal.received_P is None or signal.ideal_P is None:
        return signal.usable_P.new_zeros(shape, dtype=torch.int64)
    # Symbols differ where any of their bits does.
    difference_P = signal.received_P ^ signal.ideal_P.to(torch.int32)
    wrong_MP = pam4.encode(difference_P, symbols=symbols).T != 0
    rows = [torch.ones_like(signal.usable_P), wrong_MP.any(0), *wrong_MP]
    return (torch.stack(rows) & signal.usable_P).to(torch.int64)


def add_terms(
    totals_GC: Tensor, terms_CP: Tensor, groups: Sequence[slice], *, first: int, column: int
) -> None:
    """Add the terms of a part of the gradient to the totals of the groups it belongs to.

    Args:
        totals_GC: float64 tensor [G, C], changed.
        terms_CP: Tensor [columns, P], the terms of the part.
        groups: Slices of the whole gradient, ascending.
        first: Position of the part's first value in the whole gradient.
        column: Column of the totals that the first row of the terms belongs to.
    """
    columns = slice(column, column + len(terms_CP))
    for group, place in enumerate(groups):
        start, stop = max(place.start - first, 0), min(place.stop - first, terms_CP.shape[1])
        if start < stop:
            totals_GC[group, columns] += terms_CP[:, start:stop].sum(1)


@dataclass(frozen=True)
class GroupStatistics:
    """Statistics of one group of parameters; None where a quantity does not exist.

    Attributes:
        gradient_norm: L2 norm of the exact mean of the servers' gradients, before clipping.
        quantization_error: L2 norm of (reduced - exact mean), relative to the exact mean's norm.
        codes_at_zero: Share of the servers' codes that stand for 0.0.
        codes_at_full_scale: Share of codes at plus or minus their block's scale.
        onn_error_rate: Share of values whose received code is not the quantised average, eq. (3).
        symbol_error_rates: [M], share of values in which a PAM4 symbol is wrong, most significant
            symbol first; empty where there are none.
    """

    gradient_norm: float | None
    quantization_error: float | None
    codes_at_zero: float | None
    codes_at_full_scale: float | None
    onn_error_rate: float | None
    symbol_error_rates: tuple[float, ...] = ()

    @classmethod
    def of(cls, totals_C: Tensor) -> GroupStatistics:
        """Turn the totals of a group, float64 [C], into ratios."""
        values = totals_C.tolist()
        count = dict(zip(COLUMNS, values, strict=False))
        received, norm = count["received"], sqrt(count["squared_mean"])
        return cls(
            gradient_norm=norm if count["finite"] else None,
            quantization_error=_ratio(sqrt(count["squared_error"]), norm),
            codes_at_zero=_ratio(count["codes_at_zero"], count["codes"]),
            codes_at_full_scale=_ratio(count["codes_at_full_scale"], count["codes"]),
            onn_error_rate=_ratio(count["wrong_codes"], received),
            symbol_error_rates=tuple(
                wrong / received for wrong in (values[len(COLUMNS) :] if received else [])
            ),
        )

    def quantities(self) -> dict[str, float]:
        """Return the quantities that exist by name, with ``symbol_error_rate_1`` to ``_M``."""
        single = {
            "gradient_norm": self.gradient_norm,
            "quantization_error": self.quantization_error,
            "codes_at_zero": self.codes_at_zero,
            "codes_at_full_scale": self.codes_at_full_scale,
            "onn_error_rate": self.onn_error_rate,
        }
        symbols = {
            f"symbol_error_rate_{i}": rate for i, rate in enumerate(self.symbol_error_rates, 1)
        }
        return {name: value for name, value in single.items() if value is not None} | symbols


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
