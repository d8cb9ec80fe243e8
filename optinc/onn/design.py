"""What is to be built: the layer widths of an ONN and which layers are approximated (Table I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optinc.commands import scenario_overrides, train_onn_command
from optinc.errors import ConfigurationError
from optinc.onn.approximation import layers_in_form
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

TABLE1_HIDDEN: dict[tuple[int, int], tuple[int, ...]] = {
    (8, 4): (64, 128, 256, 128, 64),
    (8, 8): (64, 128, 256, 512, 256, 128, 64),
    (8, 16): (64, 128, 256, 512, 1024, 512, 256, 128, 64),
    (16, 4): (64, 128, 256, 512, 256, 128, 64),
}
"""Hidden widths of Table I by (bits, servers)."""

TABLE1_APPROXIMATED: dict[tuple[int, int], tuple[int, ...]] = {
    (8, 4): (1, 2, 3, 4, 5, 6),
    (8, 8): (2, 3, 4, 5, 6, 7),
    (8, 16): (2, 3, 4, 5, 6, 7, 8, 9),
    (16, 4): (4, 5, 6),
}
"""1-based layers that Table I approximates, by (bits, servers)."""

EXTRA_LAYERS = 2
"""Layers that Sec. III-C adds in a cascade: after the first and before the last, of equal width."""

LARGE = 100_000
"""Inputs above which ``onn_training=large`` is the recipe."""


@dataclass(frozen=True)
class ONNDesign:
    """Structure and approximation of an ONN for one scenario.

    Attributes:
        scenario: The switch it is meant for.
        structure: Widths of all layers, K inputs first, M outputs last.
        approximated_layers: 1-based indices of the layers in Sigma U form, ascending.
    """

    scenario: Scenario
    structure: tuple[int, ...]
    approximated_layers: tuple[int, ...]

    @classmethod
    def from_settings(
        cls,
        *,
        scenario: Scenario,
        hidden: Sequence[int] | Literal["table1"],
        layers: Sequence[int] | Literal["none", "all", "table1"],
    ) -> ONNDesign:
        """Resolve the settings ``optinc.mesh.hidden`` and ``optinc.approximation.layers``.

        In a cascade ``table1`` is the expanded structure of Sec. III-C.

        Raises:
            ConfigurationError: If Table I has no row for the scenario, or a width or layer is
                illegal; names the setting and the legal values.
        """
        row = (scenario.bits, scenario.servers)
        if isinstance(hidden, str):
            hidden = cls._table1(TABLE1_HIDDEN, row, hidden, setting="optinc.mesh.hidden")
            if in_cascade(scenario):
                hidden = (hidden[0], *hidden, hidden[-1])
        widths = tuple(hidden)
        if not widths or min(widths) < 1:
            raise ConfigurationError(
                f"optinc.mesh.hidden must be a list of positive widths or table1, got {widths}"
            )
        structure = (scenario.onn_inputs, *widths, scenario.symbols)
        count = len(structure) - 1
        if layers == "none":
            layers = ()
        elif layers == "all":
            layers = range(1, count + 1)
        elif isinstance(layers, str):
            layers = cls._table1(
                TABLE1_APPROXIMATED, row, layers, setting="optinc.approximation.layers"
            )
            if in_cascade(scenario):
                layers = _with_extra_layers(layers, count=count)
        chosen = tuple(sorted(set(layers)))
        if chosen and not (chosen[0] >= 1 and chosen[-1] <= count):
            raise ConfigurationError(
                f"optinc.approximation.layers must be none | all | table1 or 1-based layers "
                f"within 1..{count}, got {list(layers)}"
            )
        return cls(scenario=scenario, structure=structure, approximated_layers=chosen)

    @classmethod
    def of_network(cls, network: OpticalNetwork, scenario: Scenario) -> ONNDesign:
        """Describe a constructed network; layers that are Sigma U as they stand count as such."""
        return cls(
            scenario=scenario,
            structure=network.structure,
            approximated_layers=layers_in_form(network.linears),
        )

    @staticmethod
    def _table1(
        table: dict[tuple[int, int], tuple[int, ...]],
        row: tuple[int, int],
        value: str,
        *,
        setting: str,
    ) -> tuple[int, ...]:
        if value != "table1":
            words = "none | all | table1" if "approximation" in setting else "table1"
            raise ConfigurationError(f"{setting} must be {words} or a list, got {value!r}")
        if row not in table:
            rows = ", ".join(f"{bits} bits with {servers} servers" for bits, servers in table)
            raise ConfigurationError(
                f"{setting}=table1, but Table I has no row for {row[0]} bits with {row[1]} "
                f"servers (it has {rows}); give {setting} as a list"
            )
        return table[row]

    @property
    def train_command(self) -> str:
        """The command that trains this ONN."""
        return train_onn_command(
            settings_of(self.scenario),
            hidden=self.structure[1:-1],
            approximated_layers=self.approximated_layers,
            recipe="large" if self.scenario.combinations > LARGE else None,
        )


def in_cascade(scenario: Scenario) -> bool:
    """Whether a switch differs from one that stands alone."""
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
    )


def _with_extra_layers(layers: Sequence[int], *, count: int) -> tuple[int, ...]:
    """Renumber the approximated layers of Table I for ``count`` layers, two of them inserted."""
    inserted = {2, count - 1}
    moved = {1: 1, count - EXTRA_LAYERS: count}
    return tuple(inserted | {moved.get(layer, layer + 1) for layer in layers})
