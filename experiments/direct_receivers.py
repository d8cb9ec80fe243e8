"""An ONN, comparators in it, or no ONN: inputs received right, by levels and noise.

    python -m experiments.direct_receivers [--inputs 2048]

For switches with 13, 61 and 241 levels of an average: receivers behind unit P (no ONN), the
restoring construction, and the same with comparators in place of its ReLUs. Noise acts on the
inputs of every layer, as a share of the full scale of light before a reference is subtracted.
Columns that name receivers have as much noise on every receiver or comparator, of its own full
scale. Meshes have no errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import columns_of, note, show
from experiments.link_direct import SCENARIOS, DigitalStages, share_right
from experiments.link_segments import samples_of
from optinc.onn.chip.comparators import comparators_of
from optinc.onn.chip.scales import uncentred_scale
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.dataset import Samples
from optinc.onn.network import OpticalNetwork
from optinc.photonics.parts.receiver import largest_noise
from optinc.signal import outputs
from optinc.signal.scenario import Scenario

NOISES = {13: (0.005, 0.01, 0.015), 61: (0.001, 0.002, 0.003), 241: (0.0003, 0.0005, 0.0007)}
"""Noise by levels, on both sides of what a receiver bears."""

FULL_SCALE_OF_PAM4 = 3
TITLE = "Inputs received right with an ONN, with comparators in it, and without, %"


@dataclass(frozen=True)
class Subject:
    """A switch with its restoring ONN.

    Attributes:
        scenario: The switch.
        inputs: Number of inputs, drawn from all possible ones.
    """

    scenario: Scenario
    inputs: int

    @cached_property
    def network(self) -> OpticalNetwork:
        """The restoring construction."""
        return construct_restoring(self.scenario)

    @cached_property
    def stages(self) -> DigitalStages:
        """The same with comparators."""
        return DigitalStages(self.network, comparators_of(self.network))

    @cached_property
    @torch.no_grad()
    def scales(self) -> list[float]:
        """Full scale of the inputs of every layer, and of the outputs, over the samples.

        A restoring ONN has values of 1 behind every ramp whatever the sample.
        """
        network = self.network
        signal = self.samples.averages_PK * network.input_scale + network.input_offset
        scales = [uncentred_scale(network, self.scenario)]
        for i in range(len(network.linears) - 1):
            signal = torch.relu(self._layer(i, signal))
            scales.append(float(signal.max()))
        return [*scales, FULL_SCALE_OF_PAM4 / network.output_scale]

    def _layer(self, i: int, signal: Tensor) -> Tensor:
        """Return the outputs of a layer; diagonal ones without a product of matrices."""
        linear = self.network.linears[i]
        if i in self.stages.played:
            return cast("Tensor", linear(signal))
        return signal * linear.weight.diagonal() + linear.bias

    @cached_property
    def samples(self) -> Samples:
        """Inputs and targets."""
        found = samples_of(self.scenario)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(found.averages_PK), generator=generator)[: self.inputs]
        return Samples(found.averages_PK[drawn], found.symbols_PM[drawn])

    def weights(self, layers: Iterable[int]) -> int:
        """Return how many weights of these 0-based layers are not zero."""
        return sum(int((self.network.linears[i].weight != 0).sum()) for i in layers)

    def direct(self, noise: float, receivers: float) -> float:
        """Return the share right without an ONN."""
        both = (noise**2 + receivers**2) ** 0.5
        return share_right(self.scenario, self.samples, arriving=both, back=both)

    def comparators(self, noise: float, receivers: float) -> float:
        """Return the share right with comparators in the ONN."""
        detected = [receivers] * len(self.stages.played)
        return self._right(
            self.stages.outputs(
                self.samples.averages_PK, entering=noise, detected=detected, scales=self.scales
            )
        )

    @torch.no_grad()
    def restoring(self, noise: float, receivers: float) -> float:
        """Return the share right with the ONN as it is; its only receivers are the last."""
        generator, network = torch.Generator().manual_seed(0), self.network
        signal = self.samples.averages_PK * network.input_scale + network.input_offset
        for i in range(len(network.linears)):
            signal = signal if i == 0 else torch.relu(signal)
            random = torch.randn(signal.shape, generator=generator)
            signal = self._layer(i, signal + noise * self.scales[i] * random)
        amplitudes = signal * network.output_scale + network.output_offset
        random = torch.randn(amplitudes.shape, generator=generator)
        return self._right(amplitudes + receivers * FULL_SCALE_OF_PAM4 * random)

    def _right(self, amplitudes_PM: Tensor) -> float:
        received_PM = outputs.receive(amplitudes_PM, self.scenario)
        return float((received_PM == self.samples.symbols_PM).all(-1).double().mean())


def rows_of(subject: Subject) -> list[dict[str, str | float]]:
    """Return a row for every noise of a switch."""
    scenario, levels = subject.scenario, max(subject.scenario.radices)
    structure = subject.network.structure
    rows: list[dict[str, str | float]] = []
    for noise in NOISES[levels]:
        row: dict[str, str | float] = {
            "levels": levels,
            "bits": scenario.bits,
            "servers": scenario.servers,
            "K": scenario.onn_inputs,
            "noise %": 100 * noise,
            "a receiver bears %": round(100 * largest_noise(1e-4, levels=levels), 4),
        }
        for name, receivers in (("light", 0.0), ("light and receivers", noise)):
            row[f"no ONN, {name}"] = round(100 * subject.direct(noise, receivers), 3)
            row[f"comparators, {name}"] = round(100 * subject.comparators(noise, receivers), 3)
            row[f"restoring, {name}"] = round(100 * subject.restoring(noise, receivers), 3)
        row["layers"] = len(structure) - 1
        row["layers with comparators"] = len(subject.stages.played)
        row["weights"] = subject.weights(range(len(structure) - 1))
        row["weights with comparators"] = subject.weights(subject.stages.played)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print and write the table."""
    parser = command_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=2048, help="inputs (default %(default)s)")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.inputs < 1:
        parser.error("--inputs must be 1 or more")
    rows: list[dict[str, str | float]] = []
    for scenario in SCENARIOS:
        rows += rows_of(Subject(scenario, arguments.inputs))
        note(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    show(TITLE, columns_of(rows, form=".6g"), rows)
    save(
        "direct_receivers",
        title=TITLE,
        source="",
        command=command_line("experiments.direct_receivers"),
        rows=rows,
        notes=f"{arguments.inputs} random inputs, the same for all designs; the noise is drawn "
        "once for each. Restoring construction with ramp 1/6, one copy.",
        folder=arguments.results,
    )


if __name__ == "__main__":
    main()
