"""Exact ONNs in a given structure, such as Table I's, with chosen layers in Sigma U form (eq. 4).

A stage of :class:`ShallowStages` takes one layer, so the arithmetic of Table I's scenarios fits
into its depth, and the few dozen neurons of a stage into its width. The spare neurons bring the
layers into Sigma U form: they stay dark, so a row of a block may read them with any weights. The
rows A of a block become orthogonal, with equal norms, when the weights E of dark neurons satisfy
E E^T = lambda I - A A^T, which has a solution for every A once lambda is the largest eigenvalue of
A A^T.
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
from optinc.onn.construction.stages import Job, Layer, Stages, Sum, check_sums, run_stages, stack
from optinc.onn.construction.values import Value, assemble
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

NEGLIGIBLE = 1e-12
"""Share of the largest eigenvalue below which an eigenvalue is rounding."""


class ShallowStages(Stages):
    """Stages of one layer each, in which held values pass as amplitudes.

    A step is ``2 relu(x - t + 3/4) - 2 relu(x - t + 1/4)``. A function reads x itself too, with its
    most frequent increment as the slope, and needs steps only where its increment is another one.
    """

    free_functions = False

    def run(self, jobs: Sequence[Job]) -> None:
        """See :meth:`~optinc.onn.construction.stages.Stages.run`."""
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
        """Append the neurons that read a value to ``rows``, and their terms to ``sums``."""
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
    """Build an exact ONN in a given structure, with its approximated layers in Sigma U form.

    It computes eq. (3) on every input in the structures of Table I, with the layers approximated
    there and in Table II. The paper trains them (Sec. III-B); here the weights follow from the
    arithmetic.

    Args:
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        design: Structure and approximated layers, for this scenario.

    Returns:
        A float32 network of exactly this structure.

    Raises:
        ConfigurationError: If the structure has too few layers, or a layer too few neurons.
    """
    check_sums(scenario)
    stages = ShallowStages(scenario)
    if 1 in design.approximated_layers:
        # All K ONN inputs carry light, so the first layer only spreads them over its neurons.
        stages.run([])
    layers = _with_depth(stages, scenario, depth=len(design.structure) - 1)
    return assemble(embed(layers, design), scenario)


def _with_depth(stages: ShallowStages, scenario: Scenario, *, depth: int) -> list[Layer]:
    """Run all stages, and pass the symbols on until there are ``depth`` layers."""
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
    """Spread layers evenly over wider ones, and bring the approximated ones into Sigma U form.

    Args:
        layers: Weights [r, c] and offsets [r], one pair for each layer of the design.
        design: Structure and approximated layers.

    Returns:
        Weights [m, n] and offsets [m], with the widths of the design.

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
    """Make the rows of every square block orthogonal, in place, by the weights of dark neurons.

    Args:
        wide: Weights, float64 [m, n].
        dark: Whether a neuron never carries light, bool [n].

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
    """Construction in a given structure such as Table I's (``construction=in_structure``).

    Attributes:
        design: Structure and approximated layers, for the scenario that is built.
    """

    design: ONNDesign

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`~optinc.onn.construction.base.Construction.build`."""
        return construct_in_structure(scenario, design=self.design), self.design
