"""Designs of ONNs: widths of all layers, and the layers that are approximated (Table I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optinc.commands import run_command, scenario_overrides, train_onn_overrides
from optinc.errors import ConfigurationError
from optinc.onn.approximation import layers_in_form
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree

TABLE1_HIDDEN: dict[tuple[int, int], tuple[int, ...]] = {
    (8, 4): (64, 128, 256, 128, 64),
    (8, 8): (64, 128, 256, 512, 256, 128, 64),
    (8, 16): (64, 128, 256, 512, 1024, 512, 256, 128, 64),
    (16, 4): (64, 128, 256, 512, 256, 128, 64),
}
"""Hidden widths of Table I, by (bits, servers)."""

TABLE1_APPROXIMATED: dict[tuple[int, int], tuple[int, ...]] = {
    (8, 4): (1, 2, 3, 4, 5, 6),
    (8, 8): (2, 3, 4, 5, 6, 7),
    (8, 16): (2, 3, 4, 5, 6, 7, 8, 9),
    (16, 4): (4, 5, 6),
}
"""1-based approximated layers of Table I, by (bits, servers)."""

EXTRA_LAYERS = 2
"""Number of layers that a cascade adds (Sec. III-C): one after the first and one before the last
layer, each of the width of its neighbour."""

LARGE = 100_000
"""Number of possible inputs above which ``onn_training=large`` is the recipe."""


@dataclass(frozen=True)
class ONNDesign:
    """Structure and approximation of an ONN for one scenario.

    Attributes:
        scenario: The switch that the ONN serves.
        structure: Widths of all layers, from K ONN inputs to M outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form, ascending.
    """

    scenario: Scenario
    structure: tuple[int, ...]
    approximated_layers: tuple[int, ...]

    @classmethod
    def from_settings(
        cls,
        *,
        scenario: Scenario | Tree,
        hidden: Sequence[int] | Literal["table1"],
        layers: Sequence[int] | Literal["none", "all", "table1"],
    ) -> ONNDesign:
        """Resolve the settings ``optinc.mesh.hidden`` and ``optinc.approximation.layers``.

        Args:
            scenario: The switch that the ONN serves.
            hidden: Hidden widths, or ``table1``; in a cascade the expanded structure of Sec. III-C.
            layers: 1-based approximated layers, ``none``, ``all`` or ``table1``.

        Raises:
            ConfigurationError: If the scenario is a whole cascade, Table I has no row for it, or a
                width or layer is illegal; names the setting and the legal values.
        """
        if isinstance(scenario, Tree):
            raise ConfigurationError(
                f"optinc.topology.level must be 1 to {scenario.depth} for one ONN: "
                "optinc/topology=cascade has one for each level"
            )
        widths = _hidden_widths(scenario, hidden)
        structure = (scenario.onn_inputs, *widths, scenario.received_symbols)
        chosen = _approximated_layers(scenario, layers, count=len(structure) - 1)
        return cls(scenario=scenario, structure=structure, approximated_layers=chosen)

    @classmethod
    def of_network(cls, network: OpticalNetwork, scenario: Scenario) -> ONNDesign:
        """Describe a constructed network, with all layers that are in Sigma U form."""
        return cls(
            scenario=scenario,
            structure=network.structure,
            approximated_layers=layers_in_form(network.linears),
        )

    @property
    def scales(self) -> dict[str, float]:
        """Scales of a trained network by their names: its inputs and targets lie within -1 to 1."""
        return {
            "input_scale": 2 / self.scenario.full_scale,
            "input_offset": -1.0,
            "output_scale": 1.5,
            "output_offset": 1.5,
        }

    @property
    def train_overrides(self) -> list[str]:
        """The overrides with which ``run.py`` trains this ONN."""
        return train_onn_overrides(
            settings_of(self.scenario),
            hidden=self.structure[1:-1],
            approximated_layers=self.approximated_layers,
            recipe="large" if self.scenario.combinations > LARGE else None,
        )

    @property
    def train_command(self) -> str:
        """The command that trains this ONN, as it would be typed."""
        return run_command(self.train_overrides)


def _hidden_widths(
    scenario: Scenario, hidden: Sequence[int] | Literal["table1"]
) -> tuple[int, ...]:
    """Resolve and check ``optinc.mesh.hidden``."""
    if isinstance(hidden, str):
        hidden = _table1(TABLE1_HIDDEN, scenario, hidden, setting="optinc.mesh.hidden")
        if in_cascade(scenario):
            hidden = (hidden[0], *hidden, hidden[-1])
    widths = tuple(hidden)
    if not widths or min(widths) < 1:
        raise ConfigurationError(
            f"optinc.mesh.hidden must be a list of positive widths or table1, got {widths}"
        )
    return widths


def _approximated_layers(
    scenario: Scenario, layers: Sequence[int] | Literal["none", "all", "table1"], *, count: int
) -> tuple[int, ...]:
    """Resolve and check ``optinc.approximation.layers`` for an ONN of ``count`` layers."""
    if layers == "none":
        layers = ()
    elif layers == "all":
        layers = range(1, count + 1)
    elif isinstance(layers, str):
        setting = "optinc.approximation.layers"
        layers = _table1(TABLE1_APPROXIMATED, scenario, layers, setting=setting)
        if in_cascade(scenario):
            layers = _with_extra_layers(layers, count=count)
    chosen = tuple(sorted(set(layers)))
    if chosen and not (chosen[0] >= 1 and chosen[-1] <= count):
        raise ConfigurationError(
            f"optinc.approximation.layers must be none | all | table1 or 1-based layers "
            f"within 1..{count}, got {list(layers)}"
        )
    return chosen


def _table1(
    table: dict[tuple[int, int], tuple[int, ...]],
    scenario: Scenario,
    value: str,
    *,
    setting: str,
) -> tuple[int, ...]:
    """Look up the row of Table I for a setting whose value is ``table1``."""
    if value != "table1":
        words = "none | all | table1" if "approximation" in setting else "table1"
        raise ConfigurationError(f"{setting} must be {words} or a list, got {value!r}")
    row = (scenario.bits, scenario.servers)
    if row not in table:
        rows = ", ".join(f"{bits} bits with {servers} servers" for bits, servers in table)
        raise ConfigurationError(
            f"{setting}=table1, but Table I has no row for {row[0]} bits with {row[1]} "
            f"servers (it has {rows}); give {setting} as a list"
        )
    return table[row]


def in_cascade(scenario: Scenario) -> bool:
    """Whether a switch works differently from one that stands alone, since it is in a cascade."""
    return scenario.level > 1 or scenario.keeps_decimal


def settings_of(scenario: Scenario) -> list[str]:
    """Return the command-line overrides that choose a scenario."""
    return scenario_overrides(
        bits=scenario.bits,
        servers=scenario.servers,
        onn_inputs=scenario.onn_inputs,
        rounding=scenario.rounding,
        level=scenario.level,
        keeps_decimal=scenario.keeps_decimal,
        downlink=scenario.downlink,
    )


def _with_extra_layers(layers: Sequence[int], *, count: int) -> tuple[int, ...]:
    """Renumber approximated layers of Table I for ``count`` layers, and add the two extra ones."""
    inserted = {2, count - 1}
    moved = {1: 1, count - EXTRA_LAYERS: count}
    return tuple(inserted | {moved.get(layer, layer + 1) for layer in layers})
