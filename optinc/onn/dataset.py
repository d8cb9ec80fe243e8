"""Every possible ONN input with its target, generated from its index (eqs. 3, 10)."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario


class Samples(NamedTuple):
    """A batch of ONN inputs and targets.

    Attributes:
        averages_PK: float32 [P, K], the analog inputs A.
        symbols_PM: int64 [P, M], the PAM4 symbols of the quantised average; in a cascade below the
            top, the last one with its decimal part, in steps of 1/N^l (eq. 10).
    """

    averages_PK: Tensor
    symbols_PM: Tensor


def samples_of_index(index: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs with the given mixed-radix indices, and their targets.

    Args:
        index: int64 tensor [P], values 0 to ``scenario.combinations`` - 1.
        scenario: Bits, servers, inputs and rounding.
    """
    return samples_of_sums(preprocessing.sums_of_index(index, scenario), scenario)


def samples_of_sums(sums_PK: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs with the given sums S_k over the servers, and their targets.

    Args:
        sums_PK: int64 tensor [P, K] in ``input_steps``, values 0 to ``scenario.radices[k]`` - 1.
        scenario: Bits, servers, inputs and rounding.
    """
    total_P = preprocessing.code_total(sums_PK, scenario)
    steps = torch.tensor(scenario.input_steps, dtype=torch.float32, device=sums_PK.device)
    return Samples(
        averages_PK=sums_PK.to(torch.float32) / steps,
        symbols_PM=outputs.outputs_of_total(total_P, scenario),
    )


class ExhaustiveDataset(torch.utils.data.Dataset[Samples]):
    """The full enumeration of the possible inputs, nothing of it stored.

    Indexed with a tensor of indices, so that a whole batch is generated at once.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def __len__(self) -> int:
        return self.scenario.combinations

    def __getitem__(self, index: Tensor) -> Samples:
        return samples_of_index(index, self.scenario)
