"""Unit P: merge groups of symbols and average them over the servers (Sec. III-A).

Every server's code is re-read in the mixed radix of the possible averages, so the index of a
combination of ONN inputs is the *sum* over servers of a number found from one server's code alone.
"""

# Shape suffixes: N servers, P gradient values, M symbols, K ONN inputs.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.signal import pam4
from optinc.signal.scenario import Scenario


def merge(symbols: Tensor, scenario: Scenario) -> Tensor:
    """Merge groups of g consecutive symbols with positional weights, base 4.

    Args:
        symbols: Integer tensor [..., M], values 0 to 3.
        scenario: The switch; its ``group_sizes`` are the symbols of each group.

    Returns:
        Integer tensor [..., K], values 0 to 4^g - 1.
    """
    groups = torch.split(symbols, list(scenario.group_sizes), dim=-1)
    return torch.stack([pam4.decode(group) for group in groups], dim=-1)


def average(merged_NPK: Tensor, *, servers: int) -> Tensor:
    """Average the merged symbols over the servers: the analog inputs A of the ONN.

    Args:
        merged_NPK: Integer tensor [N, ..., K] of at most N servers; the others are zero light.
        servers: N, by which the splitter divides.

    Returns:
        float32 tensor [..., K], values in [0, 4^g - 1] in steps of 1/N.
    """
    # Summing integers first keeps A independent of the order of the servers.
    return merged_NPK.sum(0).to(torch.float32) / servers


def average_signals(signals_NPM: Tensor, scenario: Scenario) -> Tensor:
    """Merge and average the analog signals of the level below in a cascade (Fig. 5).

    Args:
        signals_NPM: Float tensor [n, ..., M] of at most ``scenario.servers`` signals in PAM4
            amplitudes; the others are dark.
        scenario: The switch.

    Returns:
        Float tensor [..., K].
    """
    total_PM = signals_NPM.sum(0) / scenario.servers
    merged = []
    for group in torch.split(total_PM, list(scenario.group_sizes), dim=-1):
        weights = 4.0 ** torch.arange(group.shape[-1] - 1, -1, -1, device=group.device)
        merged.append((group * weights).sum(-1))
    return torch.stack(merged, dim=-1)


def preprocess(codes_NP: Tensor, scenario: Scenario) -> Tensor:
    """Turn the codes of all servers into ONN inputs: eq. (2), then unit P.

    Args:
        codes_NP: Integer tensor [N, P], values 0 to 2^B - 1, or of fewer servers: others are dark.
        scenario: Bits, servers and inputs.

    Returns:
        float32 tensor [P, K].
    """
    merged_NPK = merge(pam4.encode(codes_NP, symbols=scenario.symbols), scenario)
    return average(merged_NPK, servers=scenario.servers)


def inputs_of_values(values: Tensor, scenario: Scenario) -> Tensor:
    """Split values into the terms they add to the sums S_k.

    Args:
        values: Integer tensor [...] in steps of 1 / ``scenario.refinement``: codes, or what a level
            of a cascade sends to the next (eq. 10).
        scenario: The switch: group sizes and steps.

    Returns:
        Integer tensor [..., K]; the last input in the steps of the values.
    """
    codes = torch.div(values, scenario.refinement, rounding_mode="floor")
    merged = merge(pam4.encode(codes, symbols=scenario.symbols), scenario)
    decimal = values - codes * scenario.refinement
    merged[..., -1] = merged[..., -1] * scenario.refinement + decimal
    return merged


def index_of_code(scenario: Scenario) -> Tensor:
    """Tabulate T: the mixed-radix index that a code contributes to the sum over servers.

    Returns:
        int32 tensor [2^B]. ``sum_n T[code_n]`` is the index of the combination of averages. At
        higher levels of a cascade [2^B ``refinement``], addressed by the values of
        :func:`inputs_of_values`.

    Raises:
        ValueError: If the indices do not fit into int32 (``scenario.tabulable`` is false).
    """
    if not scenario.tabulable:
        raise ValueError(f"{scenario.combinations} combinations do not fit an int32 index")
    values = torch.arange(2**scenario.bits * scenario.refinement, dtype=torch.int64)
    merged = inputs_of_values(values, scenario)
    return (merged * torch.tensor(scenario.strides)).sum(-1).to(torch.int32)


def sums_of_index(index: Tensor, scenario: Scenario) -> Tensor:
    """Invert the mixed-radix index.

    Args:
        index: int64 tensor [P], values 0 to ``scenario.combinations`` - 1.
        scenario: The switch; its ``radices`` count the values of each input.

    Returns:
        int64 tensor [P, K]: the sums S_k = N A_k over servers.
    """
    strides = torch.tensor(scenario.strides, device=index.device)
    radices = torch.tensor(scenario.radices, device=index.device)
    return torch.div(index.unsqueeze(-1), strides, rounding_mode="floor") % radices


def code_total(sums_PK: Tensor, scenario: Scenario) -> Tensor:
    """Return the sum of the codes over all servers, given the sums S_k.

    Args:
        sums_PK: int64 tensor [P, K], in the ``input_steps`` of the scenario.
        scenario: The switch; its ``group_sizes`` are the symbols of each group.

    Returns:
        int64 tensor [P]; in a cascade over all servers below, which is N^l times the average.
    """
    weights = [
        4 ** sum(scenario.group_sizes[k + 1 :]) * scenario.divisor // steps
        for k, steps in enumerate(scenario.input_steps)
    ]
    return (sums_PK * torch.tensor(weights, device=sums_PK.device)).sum(-1)
