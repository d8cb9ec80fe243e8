"""Accuracy of an ONN on all possible inputs: a share of 13,845,841, not of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from rich.progress import track
from torch import Tensor, nn

from optinc.onn.dataset import Samples, samples_of_index, samples_of_sums
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario

BATCH_SIZE = 1 << 14
"""Inputs at a time; on a CPU larger batches leave the cache."""


@dataclass
class HardInputs:
    """Collects the inputs whose outputs come closest to a threshold, or beyond.

    Args:
        below: Margin in PAM4 amplitudes under which an input is hard.
        limit: Most inputs kept, those of the smallest margin.

    Attributes:
        index: int64 tensor [collected], mixed-radix indices.
        margin: float32 tensor [collected].
    """

    below: float
    limit: int
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    margin: Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, index_P: Tensor, margin_P: Tensor) -> None:
        """Take in a batch of indices and their smallest margins."""
        hard_P = margin_P < self.below
        self.index = torch.cat([self.index, index_P[hard_P].cpu()])
        self.margin = torch.cat([self.margin, margin_P[hard_P].cpu()])
        if len(self.index) > self.limit:
            chosen = self.margin.topk(self.limit, largest=False).indices
            self.index, self.margin = self.index[chosen], self.margin[chosen]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        combinations: Number of possible inputs.
        evaluated_inputs: How many of them were evaluated: all, unless there are too many, or too
            many were wrong.
        wrong_inputs: Evaluated inputs for which some received symbol differs from the target's.
        error_values: Received minus ideal code, in units of the last place -> count; in units of
            1/N^l where the decimal part is kept.
        smallest_margin: Smallest distance of any output from a receiver threshold, in PAM4
            amplitudes; negative if an input is wrong.
    """

    combinations: int
    evaluated_inputs: int
    wrong_inputs: int
    error_values: dict[int, int]
    smallest_margin: float

    @property
    def accuracy(self) -> float:
        """Share of the evaluated inputs received right."""
        return 1.0 - self.wrong_inputs / self.evaluated_inputs

    @property
    def exhaustive(self) -> bool:
        """Whether all possible inputs were evaluated."""
        return self.evaluated_inputs == self.combinations


def index_batches(size: int, *, device: torch.device, progress: str | None) -> Iterator[Tensor]:
    """Yield all indices 0 to size - 1 in int64 batches, each of them spread over the whole range.

    So the first batches are a fair sample, where an evaluation ends early.

    Args:
        size: Number of indices.
        device: Device of the batches.
        progress: Title of a progress bar, shown if there are several batches; None for no bar.
    """
    count = -(-size // BATCH_SIZE)
    hidden = progress is None or count == 1
    for start in track(range(count), description=progress or "", transient=True, disable=hidden):
        yield torch.arange(start, size, count, device=device)


@torch.no_grad()
def evaluate_exhaustively(
    network: nn.Module,
    scenario: Scenario,
    *,
    progress: bool = False,
    hard: HardInputs | None = None,
    most_wrong: int | None = None,
) -> Evaluation:
    """Send every possible input through the network, in float32.

    Args:
        network: Maps [P, K] averages to [P, M] outputs in PAM4 amplitudes.
        scenario: The switch the network is meant for.
        progress: Show a progress bar; not inside another one.
        hard: Takes in the hard inputs met.
        most_wrong: End with the batch that brings so many wrong inputs; None to evaluate all.
    """
    device = next(network.parameters()).device
    title = "evaluating the ONN" if progress else None
    batches = index_batches(scenario.combinations, device=device, progress=title)

    def samples() -> Iterator[tuple[Tensor | None, Samples]]:
        for index in batches:
            yield index, samples_of_index(index, scenario)

    return _evaluate(network, scenario, samples(), hard=hard, most_wrong=most_wrong)


@torch.no_grad()
def evaluate_sampled(
    network: nn.Module, scenario: Scenario, *, samples: int = 1 << 20, seed: int = 0
) -> Evaluation:
    """Evaluate inputs that are too many to enumerate: half at random, half worst cases of carries.

    In the worst cases all servers send a code c of the form a 4^j - 1, its last j symbols all 3,
    or the code next to it: the last input decides whether a carry runs through all the others. In a
    cascade, what the level below sends is of this form, in its steps.

    Args:
        network: Maps [P, K] averages to [P, M] outputs in PAM4 amplitudes.
        scenario: The switch the network is meant for.
        samples: Number of inputs.
        seed: Seed of the choice.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randint, generator=generator)
    top = (2**scenario.bits - 1) * scenario.refinement

    def batches() -> Iterator[tuple[Tensor | None, Samples]]:
        left = samples
        while left > 0:
            size = min(left, BATCH_SIZE)
            left -= size
            random_PK = torch.stack([draw(0, radix, (size // 2,)) for radix in scenario.radices], 1)
            run_P = 4 ** draw(0, scenario.symbols + 1, (size - size // 2,)) * scenario.refinement
            base_P = draw(0, top + 1, run_P.shape) // run_P * run_P - 1
            next_NP = draw(0, 2, (scenario.servers, len(run_P)))
            values_NP = (base_P + next_NP).clamp(0, top)
            carries_PK = preprocessing.inputs_of_values(values_NP, scenario).sum(0)
            sums_PK = torch.cat([random_PK, carries_PK]).to(device)
            yield None, samples_of_sums(sums_PK, scenario)

    return _evaluate(network, scenario, batches(), hard=None, most_wrong=None)


def _evaluate(
    network: nn.Module,
    scenario: Scenario,
    batches: Iterable[tuple[Tensor | None, Samples]],
    *,
    hard: HardInputs | None,
    most_wrong: int | None,
) -> Evaluation:
    evaluated = wrong = 0
    margin = float("inf")
    errors: Counter[int] = Counter()
    for index, (averages, symbols) in batches:
        amplitudes = network(averages)
        margin_P = outputs.threshold_margin(amplitudes, symbols, scenario).amin(-1)
        margin = min(margin, float(margin_P.min()))
        if hard is not None and index is not None:
            hard.add(index, margin_P)
        received = outputs.receive(amplitudes, scenario).long()
        difference = outputs.value_of_outputs(received, scenario) - outputs.value_of_outputs(
            symbols, scenario
        )
        difference = difference[difference != 0]
        evaluated += len(amplitudes)
        wrong += len(difference)
        errors.update(difference.tolist())
        if most_wrong is not None and wrong >= most_wrong:
            break
    return Evaluation(
        combinations=scenario.combinations,
        evaluated_inputs=evaluated,
        wrong_inputs=wrong,
        error_values=dict(sorted(errors.items())),
        smallest_margin=margin,
    )
