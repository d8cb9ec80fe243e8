"""Architecture search: trades interferometers for margin and tolerance of noise.

The paper picked its structures by greedy search and left architecture search to future work. Trials
follow a fixed schedule, so that a search can be interrupted, repeated and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from optinc.onn import zoo
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.photonics import area
from optinc.signal.scenario import Scenario

Kind = Literal["constructed", "fine_tuned", "trained", "shipped"]


@dataclass(frozen=True)
class Trial:
    """One ONN of a search.

    Attributes:
        name: Unique name, usable as the name of a folder.
        kind: Origin of the ONN.
        design: Scenario, structure and approximated layers.
        max_steps: Largest number of steps of a staircase, if it starts from :func:`construct`.
        copies: Neurons for every step, if it starts from :func:`construct_restoring`.
        noise: Noise during training, as a share of full scale.
    """

    name: str
    kind: Kind
    design: ONNDesign
    max_steps: int | None = None
    copies: int | None = None
    noise: float = 0.0

    def initial(self) -> OpticalNetwork | None:
        """Build or load the network that the trial starts from; None for random weights."""
        if self.kind == "shipped":
            return zoo.load_named(self.name).network
        if self.max_steps is not None:
            return construct(self.design.scenario, max_steps=self.max_steps)
        if self.copies is not None:
            return construct_restoring(self.design.scenario, copies=self.copies)
        return None

    @property
    def mzi_count(self) -> int:
        """Number of interferometers of all layers, without units P and T."""
        return area.network_mzis(self.design.structure, self.design.approximated_layers)


@dataclass(frozen=True)
class SearchSpace:
    """Settings of a search; every combination of them is tried.

    Attributes:
        shipped: Whether the trained ONNs of the zoo are evaluated too, for comparison.
        max_steps: Largest numbers of steps of a staircase, for constructed ONNs.
        copies: Neurons for every step, for restoring ONNs.
        fine_tune_noise: Noise under which constructed ONNs are fine-tuned, as a share of full
            scale.
        widths: Widths of all hidden layers, for trained ONNs.
        depths: Numbers of hidden layers, for trained ONNs.
        approximations: Layers of trained ONNs in Sigma U form, ``none`` or ``all``.
    """

    shipped: bool
    max_steps: Sequence[int]
    copies: Sequence[int]
    fine_tune_noise: Sequence[float]
    widths: Sequence[int]
    depths: Sequence[int]
    approximations: Sequence[Literal["none", "all"]]

    def trials(self, scenario: Scenario) -> list[Trial]:
        """List all trials of a scenario: shipped, constructed, fine-tuned, trained ones by area."""
        constructed = list(self._constructed(scenario))
        fine_tuned = [
            Trial(
                name=f"{trial.name}_tuned_{noise:g}",
                kind="fine_tuned",
                design=trial.design,
                max_steps=trial.max_steps,
                noise=noise,
            )
            for trial in constructed
            if trial.max_steps is not None
            for noise in self.fine_tune_noise
        ]
        trained = [
            Trial(
                name=f"trained_{depth}x{width}_{layers}",
                kind="trained",
                design=ONNDesign.from_settings(
                    scenario=scenario, hidden=[width] * depth, layers=layers
                ),
            )
            for width in self.widths
            for depth in self.depths
            for layers in self.approximations
        ]
        trained.sort(key=lambda trial: trial.mzi_count)
        shipped = self._shipped(scenario) if self.shipped else ()
        return [*shipped, *constructed, *fine_tuned, *trained]

    @staticmethod
    def _shipped(scenario: Scenario) -> Iterator[Trial]:
        for name in zoo.names():
            card = zoo.card(name)
            if card.scenario == scenario and card.epochs > 0:
                design = ONNDesign(
                    scenario=scenario,
                    structure=card.structure,
                    approximated_layers=card.approximated_layers,
                )
                yield Trial(name=name, kind="shipped", design=design)

    def _constructed(self, scenario: Scenario) -> Iterator[Trial]:
        seen = set()
        for steps in self.max_steps:
            network = construct(scenario, max_steps=steps)
            if network.structure not in seen:
                seen.add(network.structure)
                yield Trial(
                    name=f"constructed_{steps}",
                    kind="constructed",
                    design=ONNDesign.of_network(network, scenario),
                    max_steps=steps,
                )
        for copies in self.copies:
            network = construct_restoring(scenario, copies=copies)
            yield Trial(
                name=f"restoring_{copies}",
                kind="constructed",
                design=ONNDesign.of_network(network, scenario),
                copies=copies,
            )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, value) that no other point beats.

    Args:
        points: Costs, the smaller the better, and values, the larger the better.

    Returns:
        Indices by ascending cost; the first one of equal points.
    """
    front: list[int] = []
    best = float("-inf")
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    for i in order:
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front
