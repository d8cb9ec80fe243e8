"""What noise costs: accuracy of ONNs under Gaussian noise on the inputs of every layer.

    python -m experiments.noise [NAME_OR_FOLDER ...] [--repeats 1]

Without names, all shipped ONNs of scenario 1. Every possible input is sent; the noise is a share of
each layer's full scale, the largest value any of its signals takes.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from experiments.common.record import command_line, save
from optinc.onn import zoo
from optinc.onn.noise import noisy_accuracy
from optinc.photonics import area

LEVELS = (0.0, 0.001, 0.002, 0.005, 0.01)


def main() -> None:
    """Print the table; for the shipped ONNs, write it too."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    names = arguments.names or [name for name in zoo.names() if name.startswith("b8_n4_")]
    rows = [measure(name, repeats=arguments.repeats) for name in names]
    table = Table(title="Share of all inputs received right, %, by noise")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "ONN" else "right")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
    if not arguments.names:
        save(
            "noise",
            title="Share of all inputs received right, %, by noise",
            source="",
            command=command_line("experiments.noise"),
            rows=rows,
            notes="Gaussian noise on the inputs of every layer, as a share of the layer's full "
            f"scale; {arguments.repeats} draw(s) for each of the 28,561 inputs.",
        )


def measure(name: str, *, repeats: int) -> dict[str, str]:
    """Return the row of one ONN."""
    onn = zoo.load_named(name)
    card = onn.card
    row = {
        "ONN": name,
        "MZIs": str(card.mzi_count),
        "optical depth": str(area.optical_depth(card.structure, card.approximated_layers)),
    }
    for level in LEVELS:
        accuracy = noisy_accuracy(onn.network, card.scenario, noise=level, repeats=repeats)
        row[f"{100 * level:g} %"] = f"{100 * accuracy:.3f}"
    return row


if __name__ == "__main__":
    main()
