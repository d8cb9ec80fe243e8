"""Accuracy of ONNs under Gaussian noise on the inputs of every layer.

    python -m experiments.noise [NAME_OR_FOLDER ...] [--repeats 1]

Without names, measures all shipped ONNs of scenario 1 and writes the result. Every possible input
is sent; the noise is a share of each layer's full scale, the largest value of its signals. Switches
without an ONN come last: their averages and symbols have the same noise.
"""

from __future__ import annotations

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import RIGHT, Column, show
from optinc.onn import zoo
from optinc.onn.chip import chip_accuracy
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.noise import noisy_accuracy
from optinc.photonics import area
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.scenario import make_scenario

LEVELS = (0.0, 0.001, 0.002, 0.005, 0.01)
TITLE = "Share of all inputs received right, %, by noise"


def main() -> None:
    """Print the table; for the shipped ONNs, write it too."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME_OR_FOLDER", help="ONNs to measure")
    parser.add_argument("--repeats", type=int, default=1, help="draws of noise for every input")
    add_results(parser)
    arguments = parser.parse_args()
    names = arguments.names or [name for name in zoo.names() if name.startswith("b8_n4_")]
    rows = [measure(name, repeats=arguments.repeats) for name in names]
    if not arguments.names:
        rows += [measure_direct(centred=each, repeats=arguments.repeats) for each in (False, True)]
    show(TITLE, [Column(key, key, "s" if key == "ONN" else RIGHT) for key in rows[0]], rows)
    if not arguments.names:
        save(
            "noise",
            title=TITLE,
            source="",
            command=command_line("experiments.noise"),
            rows=rows,
            notes="Gaussian noise on the inputs of every layer, as a share of the layer's full "
            f"scale; {arguments.repeats} draw(s) for each of the 28,561 inputs.",
            folder=arguments.results,
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


def measure_direct(*, centred: bool, repeats: int) -> dict[str, str]:
    """Return the row of a switch without an ONN: noise of the averages and of the symbols back.

    Args:
        centred: Whether a reference of half the full scale is subtracted from the light, as before
            the first layer of the robust ONN: amplitudes then lie on both sides of zero.
        repeats: Draws of noise for every input.
    """
    scenario = make_scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")
    row = {
        "ONN": "no ONN" + (", centred" if centred else ""),
        "MZIs": "0",
        "optical depth": "0",
    }
    for level in LEVELS:
        settings = ChipSettings(noise=level / 2 if centred else level)
        chip = DirectReceivers.draw(scenario, settings)
        row[f"{100 * level:g} %"] = f"{100 * float(chip_accuracy(chip, repeats=repeats)):.3f}"
    return row


if __name__ == "__main__":
    main()
