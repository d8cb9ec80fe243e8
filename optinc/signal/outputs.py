"""Outputs of an ONN: PAM4 symbols, the last with a decimal part below the top (eqs. 3, 10).

Outputs are counted in their ``output_steps``: a PAM4 amplitude has one step, except that of a last
output with decimal part, which has N^l. Where the whole sum goes back to the servers
(``downlink=decimal``), the outputs are its PAM4 symbols, M + log4(N^l) rounded up. With N^l a power
of four these are the M symbols of the average rounded down, then those of its decimal part.
"""

# Shape suffixes: M symbols, as many as the switch emits.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.signal import pam4
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import Scenario


def ideal_average(codes_NP: Tensor, scenario: Scenario) -> Tensor:
    """Return eq. (3) in integer arithmetic, or the whole sum: int32 [servers, P] -> int32 [P].

    Divides by the N inputs of the scenario; those without a server are dark.
    """
    return average_of_total(codes_NP.sum(0, dtype=torch.int32), scenario)


def average_of_total(total: Tensor, scenario: Scenario) -> Tensor:
    """Return the value that servers should receive for a total over them (eq. 3).

    Args:
        total: Integer tensor [...], not negative.
        scenario: The switch: divisor N^l, Q, and what goes back.

    Returns:
        Integer tensor [...] of the same dtype: Q(total / N^l), or the total itself.
    """
    return quantized_average(total, servers=scenario.average_divisor, rounding=scenario.rounding)


def outputs_of_total(total: Tensor, scenario: Scenario) -> Tensor:
    """Return the ideal outputs of an ONN for a total over the servers (eqs. 3, 10).

    A level below sends decimal parts beside symbols that are all 3 only if it is wrong; averages
    beyond the largest code saturate.

    Args:
        total: Integer tensor [...], see :func:`optinc.signal.preprocessing.code_total`.
        scenario: The switch: divisor N^l and Q.

    Returns:
        Integer tensor [..., M] in ``output_steps``.
    """
    symbols = scenario.received_symbols
    code = average_of_total(total, scenario).clamp(max=4**symbols - 1)
    outputs = pam4.encode(code, symbols=symbols)
    if scenario.keeps_decimal:
        decimal = total - code * scenario.divisor
        outputs[..., -1] = outputs[..., -1] * scenario.divisor + decimal
    return outputs


def value_of_outputs(outputs: Tensor, scenario: Scenario) -> Tensor:
    """Decode outputs to a code, a code with its decimal part, or the sum of the codes.

    Args:
        outputs: Integer tensor [..., M] in ``output_steps``.
        scenario: The switch.

    Returns:
        Integer tensor [...] of the same dtype: the code, or with a decimal part N^l times it.
    """
    if not scenario.keeps_decimal:
        return pam4.decode(outputs)
    whole = pam4.decode(outputs[..., :-1]) if scenario.symbols > 1 else 0
    return whole * (pam4.AMPLITUDES * scenario.divisor) + outputs[..., -1]


def steps_of(scenario: Scenario, *, like: Tensor) -> Tensor:
    """Return ``output_steps`` as a tensor [M] of the dtype and device of ``like``."""
    return torch.tensor(scenario.output_steps, dtype=like.dtype, device=like.device)


def receive(amplitudes: Tensor, scenario: Scenario) -> Tensor:
    """Snap analog outputs to the nearest step, as a receiver with 4 N^l - 1 thresholds does.

    Args:
        amplitudes: Float tensor [..., M], in PAM4 amplitudes.
        scenario: The switch; its ``output_steps`` are the thresholds.

    Returns:
        int32 tensor [..., M] in ``output_steps``.
    """
    if not scenario.keeps_decimal:
        return pam4.receive(amplitudes)
    steps = steps_of(scenario, like=amplitudes)
    return torch.minimum((amplitudes * steps).round().clamp(min=0), 4 * steps - 1).to(torch.int32)


def threshold_margin(amplitudes: Tensor, outputs: Tensor, scenario: Scenario) -> Tensor:
    """Return the distance of analog outputs from the receivers' decision thresholds.

    Args:
        amplitudes: Float tensor [..., M], in PAM4 amplitudes.
        outputs: Integer tensor [..., M] in ``output_steps``, the ideal outputs.
        scenario: The switch; its ``output_steps`` are the thresholds.

    Returns:
        Float tensor [..., M] in PAM4 amplitudes, see :func:`optinc.signal.pam4.threshold_margin`.
    """
    if not scenario.keeps_decimal:
        return pam4.threshold_margin(amplitudes, outputs)
    steps = steps_of(scenario, like=amplitudes)
    scaled, infinity = amplitudes * steps, torch.full_like(amplitudes, torch.inf)
    above = torch.where(outputs == 4 * steps - 1, infinity, outputs + 0.5 - scaled)
    below = torch.where(outputs == 0, infinity, scaled - (outputs - 0.5))
    return torch.minimum(above, below) / steps
