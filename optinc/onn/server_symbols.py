"""Servers' codes drawn at random among those whose sums are given."""

# Shape suffixes: N servers, P values, K ONN inputs, S sums.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.signal.scenario import Scenario


def draw_codes(
    sums_PK: Tensor, scenario: Scenario, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the codes of N servers, all combinations with the given sums being equally likely.

    That is the distribution of independent, uniform codes, given what unit P makes of them. The
    servers are drawn one after the other: with n left, a server's digit d has probability
    ``ways(n - 1, S - d) / ways(n, S)``.

    Args:
        sums_PK: Sums S_k = N A_k over the servers, int64 tensor [P, K].
        scenario: The switch: bits, servers N and ONN inputs. At higher levels of a cascade the
            values of the switches below are drawn, in steps of 1 / ``refinement``.
        generator: Random generator, on the device of the sums.

    Returns:
        int32 tensor [N, P], values 0 to 2^B ``refinement`` - 1.
    """
    codes_NP = sums_PK.new_zeros((scenario.servers, len(sums_PK)), dtype=torch.int32)
    last = scenario.onn_inputs - 1
    for k, size in enumerate(scenario.group_sizes):
        radix, weight = 4**size, 4 ** sum(scenario.group_sizes[k + 1 :]) * scenario.refinement
        if k == last:
            radix, weight = radix * scenario.refinement, 1
        digits_NP = _draw_digits(sums_PK[:, k], scenario.servers, radix, generator)
        codes_NP += (digits_NP * weight).to(torch.int32)
    return codes_NP


def _draw_digits(
    sum_P: Tensor, servers: int, radix: int, generator: torch.Generator | None
) -> Tensor:
    """Draw digits 0 to ``radix`` - 1 with the given sums: int64 [P] -> int64 [N, P]."""
    ways = _cumulative_ways(servers - 1, radix)
    digits, rest_P = [], sum_P
    for left in range(servers - 1, 0, -1):
        # Sums of the servers left that are at most ``i`` can be had in ``total[i + radix]`` ways.
        total = ways[left].to(sum_P.device)
        # Of a sum and its mirror image the smaller one: its counts are far from rounding.
        mirrored_P = 2 * rest_P > (left + 1) * (radix - 1)
        small_P = torch.where(mirrored_P, (left + 1) * (radix - 1) - rest_P, rest_P)
        uniform_P = torch.rand(
            sum_P.shape, dtype=torch.float64, generator=generator, device=sum_P.device
        )
        low_P, high_P = total[small_P], total[small_P + radix]
        drawn_P = low_P + uniform_P * (high_P - low_P)
        remaining_P = torch.searchsorted(total, drawn_P, right=True) - radix
        # A product that rounds up to the end would be one too many.
        digit_P = small_P - torch.minimum(remaining_P, small_P)
        digit_P = torch.where(mirrored_P, radix - 1 - digit_P, digit_P)
        digits.append(digit_P)
        rest_P = rest_P - digit_P
    return torch.stack([*digits, rest_P])


def _cumulative_ways(servers: int, radix: int) -> dict[int, Tensor]:
    """Return, for 1 to ``servers`` digits, in how many ways sums of at most i come about.

    Returns:
        Number of digits -> float64 [radix + largest sum + radix]: entry ``i + radix`` belongs to
        sums of at most i, which may lie outside of what is possible.
    """
    found: dict[int, Tensor] = {}
    count_S = torch.ones(1, dtype=torch.float64)
    for n in range(1, servers + 1):
        cumulative = torch.nn.functional.pad(count_S.cumsum(0), (radix, 0))
        last = cumulative[-1].expand(radix - 1)
        cumulative = torch.cat([cumulative, last])
        # The number of ways is a sliding sum over the last digit.
        count_S = cumulative[radix:] - cumulative[: len(cumulative) - radix]
        total = torch.nn.functional.pad(count_S.cumsum(0), (radix, 0))
        found[n] = torch.cat([total, total[-1].expand(radix)])
    return found
