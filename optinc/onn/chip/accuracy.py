"""Accuracy of drawn chips: the share of all possible inputs that each receives right."""

# Shape suffixes: C chips, P inputs.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.dataset import samples_of_sums
from optinc.onn.evaluation import index_batches
from optinc.onn.server_symbols import draw_codes
from optinc.signal import outputs
from optinc.signal.preprocessing import sums_of_index
from optinc.signal.scenario import MAX_TABLE_ENTRIES


@torch.no_grad()
def chip_accuracy(chip: DrawnChips, *, repeats: int = 1, seed: int = 0) -> Tensor:
    """Return the share of all possible ONN inputs that each chip receives right.

    An input is right where the code is that of the ideal average. Where servers differ, their
    codes are drawn among those with the sums of the input, anew for every repetition.

    Args:
        chip: The chips, of a switch whose inputs can be enumerated.
        repeats: How often every input is sent; more than once matters where there is noise or where
            servers differ.
        seed: Seed of noise and codes.

    Returns:
        float64 [C].

    Raises:
        ConfigurationError: If the switch has too many possible inputs.
    """
    scenario = chip.scenario
    if not scenario.tabulable:
        raise ConfigurationError(
            f"the accuracy of a chip is that of all its inputs, but the switch ({scenario}) has "
            f"{scenario.combinations}, more than {MAX_TABLE_ENTRIES}"
        )
    generator = torch.Generator().manual_seed(seed)
    right_C = torch.zeros(chip.chips, dtype=torch.int64)
    for _ in range(repeats):
        for index_P in index_batches(
            scenario.combinations, device=torch.device("cpu"), progress=None
        ):
            sums_PK = sums_of_index(index_P, scenario)
            averages_PK, symbols_PM = samples_of_sums(sums_PK, scenario)
            if chip.needs_servers:
                codes_NP = draw_codes(sums_PK, scenario, generator=generator)
                amplitudes = chip.emit(codes_NP, generator=generator)
            else:
                amplitudes = chip(averages_PK, generator=generator)
            ideal_P = outputs.value_of_outputs(symbols_PM, scenario)
            right_C += (chip.receive(amplitudes) == ideal_P).sum(-1)
    return right_C.double() / (repeats * scenario.combinations)
