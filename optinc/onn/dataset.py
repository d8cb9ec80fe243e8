"""Data set of an ONN: every possible input with its target, made from its index (eqs. 3, 10)."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario


class Samples(NamedTuple):
    """Batch of ONN inputs and targets.

    Attributes:
        averages_PK: The ONN inputs A, float32 [P, K].
        symbols_PM: The PAM4 symbols of the quantised average (eq. 3), int64 [P, M]; below the top
            of a cascade the last one includes the decimal part, in steps of 1/N^l (eq. 10).
    """

    averages_PK: Tensor
    symbols_PM: Tensor


def samples_of_index(index: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs of mixed-radix indices, with their targets.

    Args:
        index: Indices from 0 to ``scenario.combinations`` - 1, int64 tensor [P].
        scenario: Bits, servers, ONN inputs and rounding of the switch.
    """
    return samples_of_sums(preprocessing.sums_of_index(index, scenario), scenario)


def samples_of_sums(sums_PK: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs of sums S_k over the servers, with their targets.

    Args:
        sums_PK: Sums from 0 to ``scenario.radices[k]`` - 1, in units of 1 / ``input_steps``, int64
            tensor [P, K].
        scenario: Bits, servers, ONN inputs and rounding of the switch.
    """
    total_P = preprocessing.code_total(sums_PK, scenario)
    steps = torch.tensor(scenario.input_steps, dtype=torch.float32, device=sums_PK.device)
    return Samples(
        averages_PK=sums_PK.to(torch.float32) / steps,
        symbols_PM=outputs.outputs_of_total(total_P, scenario),
    )


class ExhaustiveDataset(torch.utils.data.Dataset[Samples]):
    """All possible inputs of a scenario, generated when read.

    It is indexed with int64 tensors [P], so that a whole batch is generated at once.

    Args:
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        device: Device on which they are generated.
    """

    def __init__(self, scenario: Scenario, *, device: torch.device | str = "cpu") -> None:
        self.scenario = scenario
        self.device = device

    def __len__(self) -> int:
        return self.scenario.combinations

    def __getitem__(self, index: Tensor) -> Samples:
        return samples_of_index(index.to(self.device), self.scenario)
