"""Exact ONNs in a given structure, such as Table I's, with given layers in Sigma U form.

A stage of :class:`ShallowStages` takes one layer, so the arithmetic of Table I's scenarios fits
into its depth, and its few dozen neurons into its width. What is left of the width makes the layers
Sigma U: the neurons that are not needed stay dark, and a row of a block may read dark neurons with
any weights. Rows A of a block become orthogonal, with equal norms, when the part E that reads dark
neurons satisfies E E^T = lambda I - A A^T, which has a solution for every A once lambda is the
largest eigenvalue of A A^T.
"""

# Shape suffixes: m outputs, n inputs, r rows, s block size.

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.approximation import square_blocks
from optinc.onn.construction.base import Construction
from optinc.onn.construction.stages import Job, Layer, Stages, Sum, check_levels, run_stages, stack
from optinc.onn.construction.values import Value, assemble
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

NEGLIGIBLE = 1e-12
"""Relative to the largest one: eigenvalues below are rounding."""


class ShallowStages(Stages):
    """One layer per stage; held values pass as amplitudes.

    A step is ``2 relu(x - t + 3/4) - 2 relu(x - t + 1/4)``. A function reads x itself too, so that
    it needs steps only where it does not go on as it mostly does.
    """

    free_functions = False

    def run(self, jobs: Sequence[Job]) -> None:
        """See :meth:`Stages.run`."""
        rows: list[Value] = []
        found: dict[str, Sum] = {}
        for job in jobs:
            sums = {n: Sum(f, largest=job.value.largest) for n, f in job.functions.items()}
            found |= sums
            self._append(job.value, sums, rows)
        for name, value in self.values.items():
            found[name] = Sum(lambda x: x, largest=value.largest)
            if value.largest > 0:
                found[name].terms.append((len(rows), 1.0))
                rows.append(value)
        self.layers.append(stack(rows))
        self.values = {name: total.value(len(rows)) for name, total in found.items()}

    @staticmethod
    def _append(value: Value, sums: dict[str, Sum], rows: list[Value]) -> None:
        """Append the neurons of a job to ``rows``, and the terms that read them to ``sums``."""
        slopes = {
            name: Counter(total.increments).most_common(1)[0][0] if total.increments else 0
            for name, total in sums.items()
        }
        if any(slopes.values()):
            for name, slope in slopes.items():
                sums[name].terms.append((len(rows), float(slope)))
            rows.append(value)
        for t in range(1, value.largest + 1):
            jumps = {name: total.increments[t - 1] - slopes[name] for name, total in sums.items()}
            if not any(jumps.values()):
                continue
            # x does not go beyond its largest value: that step needs no upper kink.
            kinks = [(1.0, 1.0)] if t == value.largest else [(2.0, 0.75), (-2.0, 0.25)]
            for factor, shift in kinks:
                for name, jump in jumps.items():
                    sums[name].terms.append((len(rows), factor * jump))
                rows.append(value.shifted(shift - t))


def construct_in_structure(scenario: Scenario, *, design: ONNDesign) -> OpticalNetwork:
    """Build an exact ONN of a given structure, its approximated layers in Sigma U form.

    Args:
        scenario: Bits, servers, inputs and rounding.
        design: Structure and approximated layers, for the same scenario.

    Raises:
        ConfigurationError: If the structure has too few layers, or a layer too few neurons.
    """
    check_levels(scenario)
    stages = ShallowStages(scenario)
    if 1 in design.approximated_layers:
        # K inputs leave none dark: the first layer only spreads them.
        stages.run([])
    layers = _with_depth(stages, scenario, depth=len(design.structure) - 1)
    return assemble(embed(layers, design), scenario)


def _with_depth(stages: ShallowStages, scenario: Scenario, *, depth: int) -> list[Layer]:
    """Run all stages, then pass the symbols on up to the last layer."""
    symbols = run_stages(stages, scenario)
    if len(stages.layers) >= depth:
        raise ConfigurationError(
            f"optinc.mesh.hidden must hold at least {len(stages.layers)} layers for "
            f"construction=in_structure with these approximated layers, got {depth - 1}"
        )
    while len(stages.layers) < depth - 1:
        stages.values = {f"d{i}": symbol for i, symbol in enumerate(symbols)}
        stages.run([])
        symbols = [stages.values[f"d{i}"] for i in range(len(symbols))]
    return [*stages.layers, stack(symbols)]


def embed(layers: Sequence[Layer], design: ONNDesign) -> list[Layer]:
    """Spread layers evenly over wider ones, and make the approximated ones Sigma U.

    Args:
        layers: Weights [r, c] and offsets [r], as many as the design has.
        design: Structure and approximated layers.

    Returns:
        Weights [m, n] and offsets [m] of the design's structure.

    Raises:
        ConfigurationError: If a layer has too few neurons.
    """
    ports = torch.arange(design.structure[0])
    embedded: list[Layer] = []
    for index, ((weights, offsets), width) in enumerate(
        zip(layers, design.structure[1:], strict=True), start=1
    ):
        if len(offsets) > width:
            raise _too_narrow(index, f"{len(offsets)} neurons, got {width}")
        columns, ports = ports, torch.arange(len(offsets)) * width // len(offsets)
        wide = torch.zeros(width, design.structure[index - 1], dtype=torch.float64)
        wide[ports[:, None], columns] = weights
        if index in design.approximated_layers:
            dark = torch.ones(design.structure[index - 1], dtype=torch.bool)
            dark[columns] = False
            if not _orthogonalize(wide, dark):
                raise _too_narrow(index, "more neurons to be in Sigma U form")
        offset = torch.zeros(width, dtype=torch.float64)
        offset[ports] = offsets
        embedded.append((wide, offset))
    return embedded


def _too_narrow(layer: int, needed: str) -> ConfigurationError:
    return ConfigurationError(
        f"optinc.mesh.hidden is too narrow for construction=in_structure: layer {layer} needs "
        f"{needed}"
    )


def _orthogonalize(wide: Tensor, dark: Tensor) -> bool:
    """Make the rows of every square block orthogonal, in place, by weights of dark neurons.

    Args:
        wide: float64 [m, n].
        dark: bool [n], the neurons whose signal is always zero.

    Returns:
        Whether every block has enough dark neurons.
    """
    for block in square_blocks(*wide.shape):
        rows = slice(block.row, block.row + block.size)
        columns = slice(block.column, block.column + block.size)
        part = wide[rows, columns]
        lit = part.abs().sum(1).nonzero().squeeze(1)
        gram = part[lit] @ part[lit].T
        if torch.equal(gram, torch.diag(gram.diagonal())):
            continue
        values, vectors = torch.linalg.eigh(gram)
        rest = values.max() - values
        used = rest > NEGLIGIBLE * values.max()
        free = dark[columns].nonzero().squeeze(1)
        if int(used.sum()) > len(free):
            return False
        extra = vectors[:, used] * rest[used].sqrt()
        part[lit[:, None], free[: int(used.sum())]] = extra
    return True


@dataclass(frozen=True)
class InStructure(Construction):
    """An exact ONN of a given structure, with given layers in Sigma U form (``in_structure``).

    Attributes:
        design: For the scenario to be built.
    """

    design: ONNDesign

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`Construction.build`."""
        return construct_in_structure(scenario, design=self.design), self.design
