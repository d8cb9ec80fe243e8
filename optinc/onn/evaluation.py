"""Accuracy of an ONN: the share of all possible inputs received right (Tables I and II).

All inputs are evaluated, up to 13,845,841 in the paper's scenarios, not a sample of them.
"""

# Shape suffixes: N servers, P inputs, K ONN inputs, M symbols.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from optinc.onn.dataset import Samples, samples_of_index, samples_of_sums
from optinc.onn.progress import with_bar
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario

BATCH_SIZE = 1 << 14
"""Inputs evaluated at once; larger batches do not fit a CPU's cache."""


@dataclass
class HardInputs:
    """Collects hard inputs: those received wrong, or with outputs close to a threshold.

    Args:
        below: Margin in PAM4 amplitudes below which an input is hard.
        limit: Largest number of inputs kept; the smallest margins are kept.

    Attributes:
        index: Mixed-radix indices of the inputs, int64 tensor [collected].
        margin: Their smallest margins in PAM4 amplitudes, float32 tensor [collected].
    """

    below: float
    limit: int
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    margin: Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, index_P: Tensor, margin_P: Tensor) -> None:
        """Add the hard ones of a batch of indices, int64 [P], with their margins, float [P]."""
        hard_P = margin_P < self.below
        self.index = torch.cat([self.index, index_P[hard_P].cpu()])
        self.margin = torch.cat([self.margin, margin_P[hard_P].cpu()])
        if len(self.index) > self.limit:
            chosen = self.margin.topk(self.limit, largest=False).indices
            self.index, self.margin = self.index[chosen], self.margin[chosen]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        combinations: Number of possible inputs.
        evaluated_inputs: Number of evaluated inputs: all, unless there are too many, or too many
            were wrong.
        wrong_inputs: Number of evaluated inputs with a received symbol that differs from its
            target.
        error_values: Received minus ideal code -> count, as in Table II; in units of the last
            place, or of 1/N^l where the decimal part is kept.
        smallest_margin: Smallest distance of an output from a receiver threshold, in PAM4
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


def share_wrong(wrong: int, evaluated: int) -> str:
    """Describe wrong inputs for a message, as in ``8.2 % of its inputs (4 of 49)``."""
    share = 100 * wrong / evaluated
    return f"{share:.{2 if share < 99 else 4}g} % of its inputs ({wrong} of {evaluated})"


@dataclass
class Tally:
    """Counts of an evaluation, batch by batch.

    Attributes:
        evaluated: Number of evaluated inputs.
        wrong: Number of wrong ones.
        smallest_margin: Smallest margin in PAM4 amplitudes.
        errors: Received minus ideal value, without 0 -> count.
    """

    evaluated: int = 0
    wrong: int = 0
    smallest_margin: float = float("inf")
    errors: Counter[int] = field(default_factory=Counter)

    def add(self, margin_P: Tensor, difference_P: Tensor) -> None:
        """Count a batch.

        Args:
            margin_P: Smallest margin of every input in PAM4 amplitudes, float [P].
            difference_P: Received minus ideal value of every input, integer [P].
        """
        self.smallest_margin = min(self.smallest_margin, float(margin_P.min()))
        errors = difference_P[difference_P != 0]
        self.evaluated += len(difference_P)
        self.wrong += len(errors)
        self.errors.update(errors.tolist())

    def evaluation(self, *, combinations: int) -> Evaluation:
        """Return the result, for a number of possible inputs."""
        return Evaluation(
            combinations=combinations,
            evaluated_inputs=self.evaluated,
            wrong_inputs=self.wrong,
            error_values=dict(sorted(self.errors.items())),
            smallest_margin=self.smallest_margin,
        )


def index_batches(size: int, *, device: torch.device, progress: str | None) -> Iterator[Tensor]:
    """Yield the indices 0 to size - 1 in int64 batches, each spread over the whole range.

    The first batches are a fair sample, for evaluations that end early.

    Args:
        size: Number of indices.
        device: Device of the batches.
        progress: Title of a progress bar, shown from two batches on; None for no bar.
    """
    count = -(-size // BATCH_SIZE)
    for start in with_bar(range(count), progress, hidden=count == 1):
        yield torch.arange(start, size, count, device=device)


def evaluate(network: nn.Module, scenario: Scenario, *, progress: bool = False) -> Evaluation:
    """Evaluate a network on every possible input, or a sample where they cannot be enumerated.

    Args:
        network: Maps averages [P, K] to outputs [P, M] in PAM4 amplitudes.
        scenario: The switch that the network serves.
        progress: Show a progress bar.
    """
    if scenario.tabulable:
        return evaluate_exhaustively(network, scenario, progress=progress)
    return evaluate_sampled(network, scenario)


@torch.no_grad()
def evaluate_exhaustively(
    network: nn.Module,
    scenario: Scenario,
    *,
    progress: bool = False,
    hard: HardInputs | None = None,
    most_wrong: int | None = None,
) -> Evaluation:
    """Evaluate a network on every possible input, in float32.

    Args:
        network: Maps averages [P, K] to outputs [P, M] in PAM4 amplitudes.
        scenario: The switch that the network serves.
        progress: Show a progress bar; only one can be shown at a time.
        hard: Collects the hard inputs.
        most_wrong: Number of wrong inputs after which the evaluation ends, with the batch that
            reaches it; None to evaluate all.
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
    """Evaluate a network on a sample: half random inputs, half worst cases of carries.

    For scenarios with too many inputs to enumerate. In the worst cases every server sends a code
    a 4^j - 1, whose last j symbols are all 3, or the next code: the last ONN input decides whether
    a carry runs through all others. In a cascade the level below sends such values, in its steps.

    Args:
        network: Maps averages [P, K] to outputs [P, M] in PAM4 amplitudes.
        scenario: The switch that the network serves.
        samples: Number of inputs.
        seed: Seed of the sample.
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
    """Evaluate a network on batches of indices (None where unknown) and samples."""
    tally = Tally()
    for index, (averages, symbols) in batches:
        amplitudes = network(averages)
        margin_P = outputs.threshold_margin(amplitudes, symbols, scenario).amin(-1)
        if hard is not None and index is not None:
            hard.add(index, margin_P)
        received = outputs.receive(amplitudes, scenario).long()
        difference_P = outputs.value_of_outputs(received, scenario) - outputs.value_of_outputs(
            symbols, scenario
        )
        tally.add(margin_P, difference_P)
        if most_wrong is not None and tally.wrong >= most_wrong:
            break
    return tally.evaluation(combinations=scenario.combinations)
