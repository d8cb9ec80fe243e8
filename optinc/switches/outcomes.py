"""Received codes drawn from the outcome table of a chip, one for each value of a gradient."""

# Shape suffixes: P gradient values, C combinations of ONN inputs, D deviations.

from __future__ import annotations

import torch
from torch import Tensor, nn

from optinc.onn.outcome_table import OutcomeTable
from optinc.onn.truth_table import ideal_codes
from optinc.signal.randomness import random_bits

SCREEN_BITS = 16
"""Bits of an entry that decide with the upper half of the random bits, almost always alone."""

RATE_BITS = 30
"""Probabilities of wrong codes are kept in 2^-30, so that their sums are integers and exact."""


class Outcomes(nn.Module):
    """Outcome table in the form that kernels look up.

    A value with the index i and 32 random bits u is received as the first deviation d of i with
    ``u < thresholds[d]``, or as the most likely code of i where there is none.

    Args:
        table: The outcome table.
        seed: Seed of the random bits; they are a function of seed, reduction and position.

    Attributes:
        entries: int32 [C, 2], bits of two unsigned words for each index. First: code in the lowest
            B bits, whether it is wrong in the next, then the largest threshold of its deviations
            divided by ``2^(32 - screen_bits)``, rounded down. Second: probability of a wrong code
            in 2^-30.
        rows: int32 [C, 2], where the deviations of each index begin and end.
        deviations: int32 [D, 2], bits of two unsigned words. First: threshold, ascending within an
            index. Second: code, and bit B set where it is wrong.
    """

    def __init__(self, table: OutcomeTable, *, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.bits = table.scenario.received_bits
        ideal_C, thresholds_D = ideal_codes(table.scenario), table.thresholds
        rows_C2 = torch.stack([table.rows[:-1], table.rows[1:]], -1)
        index_D = torch.arange(len(ideal_C)).repeat_interleave(table.rows.diff())
        wrong_C, wrong_D = table.codes != ideal_C, table.deviations != ideal_C[index_D]
        begin_C, end_C = rows_C2[table.rows.diff() > 0].long().unbind(-1)
        largest_C = torch.zeros(len(ideal_C), dtype=torch.int64)
        largest_C[index_D[begin_C]] = thresholds_D[end_C - 1]
        weight_D = thresholds_D.diff(prepend=thresholds_D.new_zeros(1))
        weight_D[begin_C] = thresholds_D[begin_C]
        rate_C = torch.where(wrong_C, (1 << 32) - largest_C, 0)
        rate_C = rate_C.index_add(0, index_D, weight_D * wrong_D) >> (32 - RATE_BITS)
        screen_C = largest_C >> (32 - self.screen_bits) << (self.bits + 1)
        entry_C = screen_C | wrong_C.long() << self.bits | table.codes
        marked_D = table.deviations | wrong_D.long() << self.bits
        words = {
            "entries": torch.stack([entry_C, rate_C], -1).to(torch.int32),
            "rows": rows_C2,
            "deviations": torch.stack([thresholds_D, marked_D], -1).to(torch.int32),
            # Ascending over all indices, for one binary search.
            "_keys": index_D << 32 | thresholds_D,
        }
        for name, buffer in words.items():
            self.register_buffer(name, buffer, persistent=False)
        self.entries: Tensor
        self.rows: Tensor
        self.deviations: Tensor
        self._keys: Tensor

    @property
    def screen_bits(self) -> int:
        """Bits of the threshold in an entry: what code and mark leave, at most 16."""
        return min(SCREEN_BITS, 31 - self.bits)

    def receive(self, index_P: Tensor, *, reduction: int, first: int) -> Tensor:
        """Draw the received codes of values.

        Args:
            index_P: Mixed-radix indices of the ONN inputs, int32 tensor [P].
            reduction: Number of the reduction.
            first: Position of the first value in the whole gradient.

        Returns:
            int32 tensor [P].
        """
        position_P = torch.arange(first, first + len(index_P), device=index_P.device)
        bits_P = random_bits(position_P, seed=self.seed, reduction=reduction)
        index_P = index_P.long()
        found_P = torch.searchsorted(self._keys, index_P << 32 | bits_P, right=True)
        code_mask = (1 << self.bits) - 1
        received_P = self.entries[:, 0].index_select(0, index_P) & code_mask
        deviates_P = found_P < self.rows[:, 1].index_select(0, index_P)
        received_P[deviates_P] = self.deviations[found_P[deviates_P], 1] & code_mask
        return received_P

    def expected_errors(self, index_P: Tensor) -> float:
        """Return the expected number of wrong codes of values with these indices, int32 [P]."""
        return float(self.entries[:, 1].index_select(0, index_P).sum()) / 2.0**RATE_BITS
