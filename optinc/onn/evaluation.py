"""Accuracy of an ONN on all possible inputs: a share of 13,845,841, not of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor, nn

from optinc.onn.dataset import samples_of_index
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

BATCH_SIZE = 1 << 16


@dataclass(frozen=True)
class Evaluation:
    """What an exhaustive evaluation found.

    Attributes:
        inputs: Number of possible inputs, all evaluated.
        wrong_inputs: Inputs for which some received symbol differs from the target's.
        error_values: Received minus ideal code, in units of the last place -> count.
        smallest_margin: Smallest distance of any output from a receiver threshold, in PAM4
            levels; negative if an input is wrong.
    """

    inputs: int
    wrong_inputs: int
    error_values: dict[int, int]
    smallest_margin: float

    @property
    def accuracy(self) -> float:
        """Share of inputs received right."""
        return 1.0 - self.wrong_inputs / self.inputs


def index_batches(size: int, *, device: torch.device, progress: str | None) -> Iterator[Tensor]:
    """Yield all indices 0 to size - 1 in int64 batches.

    Args:
        size: Number of indices.
        device: Device of the batches.
        progress: Title of a progress bar, shown if there are several batches; None for no bar.
    """
    starts = range(0, size, BATCH_SIZE)
    hidden = progress is None or len(starts) == 1
    for start in track(starts, description=progress or "", transient=True, disable=hidden):
        yield torch.arange(start, min(start + BATCH_SIZE, size), device=device)


@torch.no_grad()
def evaluate_exhaustively(
    network: nn.Module, scenario: Scenario, *, progress: bool = False
) -> Evaluation:
    """Send every possible input through the network, in float32.

    Args:
        network: Maps [P, K] averages to [P, M] outputs in PAM4 levels.
        scenario: The switch the network is meant for.
        progress: Show a progress bar; not inside another one.
    """
    device = next(network.parameters()).device
    wrong = 0
    margin = float("inf")
    errors: Counter[int] = Counter()
    title = "evaluating the ONN" if progress else None
    for index in index_batches(scenario.combinations, device=device, progress=title):
        averages, symbols = samples_of_index(index, scenario)
        levels = network(averages)
        margin = min(margin, float(pam4.threshold_margin(levels, symbols).min()))
        difference = pam4.decode(pam4.receive(levels).long()) - pam4.decode(symbols)
        difference = difference[difference != 0]
        wrong += len(difference)
        errors.update(difference.tolist())
    return Evaluation(
        inputs=scenario.combinations,
        wrong_inputs=wrong,
        error_values=dict(sorted(errors.items())),
        smallest_margin=margin,
    )
