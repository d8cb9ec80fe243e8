"""Forms of the restoring construction: parts, depth and tolerance of each.

    python -m experiments.restoring [--chips 10] [--inputs 131072] [--only parts]

First table: scenario 1 (8 bits, 4 servers), all 28,561 inputs. Noise acts on the inputs of every
layer and on the receivers, as a share of their full scale; in layer 1 of that of light (uncentred).
Every ReLU behind homodyne detectors leaks. Phase errors are those of every attenuator of a
crossbar, or of every shifter of the meshes.

Second table: 16 bits, 4 servers, with the paper's K = 4 and with K = 8. Without noise, K = 8 is
proved (:mod:`optinc.onn.construction.proof`). Under noise random inputs are sent; a right share is
given with the bound that it exceeds with 95 % confidence (Clopper and Pearson, Biometrika 26, 404).
"""

# Shape suffixes: P inputs.

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import columns_of, note, show
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.construction.restoring import Restoring
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import BATCH_SIZE, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import noisy_forward
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import outputs, pam4
from optinc.signal.scenario import Scenario

FORMS = {
    "robust": Restoring(),
    "robust, two-sided": Restoring(steps="two_sided"),
    "robust, pairs": Restoring(steps="pairs"),
    "lookahead": Restoring(carries="lookahead"),
    "lean": Restoring(carries="lookahead", ramp=0.1),
    "lean, reach 1": Restoring(carries="lookahead", ramp=0.1, reach=1),
    "lean, two copies": Restoring(carries="lookahead", ramp=0.1, copies=2),
    "leak_tolerant": Restoring(carries="lookahead", steps="two_sided"),
    "lookahead, pairs": Restoring(carries="lookahead", steps="pairs"),
}
"""Constructions of scenario 1, by the names of the shipped ONNs or what differs from them."""

CHIPS = {
    "noise 0.5 %": (ChipSettings(noise=0.005, receiver_noise=0.005), 1),
    "noise 1 %": (ChipSettings(noise=0.01, receiver_noise=0.01), 1),
    "leak -30 dB": (ChipSettings(relu_leak=30.0), 1),
    "leak -28 dB": (ChipSettings(relu_leak=28.0), 1),
    "crossbar 0.01 rad": (ChipSettings(hardware="crossbar", phase_error=0.01), None),
    "crossbar 0.01 rad, leak -30 dB": (
        ChipSettings(hardware="crossbar", phase_error=0.01, relu_leak=30.0),
        None,
    ),
    "meshes 0.003 rad": (
        ChipSettings(shifters="one_arm", bias="attenuator", phase_error=0.003),
        None,
    ),
}
"""Chips of the first table, and how many are drawn where it is not the number asked for."""

LARGE = {
    "K = 4": (4, Restoring()),
    "K = 8, robust": (8, Restoring()),
    "K = 8, lean": (8, Restoring(carries="lookahead", ramp=0.1)),
}
"""ONN inputs and construction of the second table."""

LEVELS = (0.002, 0.005, 0.01)

CONFIDENCE = 0.95


def main() -> None:
    """Measure, print and write both tables."""
    parser = command_parser(__doc__)
    parser.add_argument("--chips", type=int, default=10, help="chips (default %(default)s)")
    parser.add_argument(
        "--inputs", type=int, default=1 << 17, help="inputs of 16 bits (default %(default)s)"
    )
    parser.add_argument("--only", choices=("parts", "noise"), help="one of the two tables")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.only != "noise":
        rows = [_parts_row(name, each, chips=arguments.chips) for name, each in FORMS.items()]
        _write("restoring", "Forms of the restoring construction", rows, arguments.results)
    if arguments.only != "parts":
        rows = [_noise_row(name, *each, inputs=arguments.inputs) for name, each in LARGE.items()]
        title = "16 bits, 4 servers: inputs received right, %, by noise"
        _write("restoring_16_bits", title, rows, arguments.results)


def _write(name: str, title: str, rows: list[dict[str, str | float]], folder: Path) -> None:
    show(title, columns_of(rows, form=".3f"), rows)
    save(
        name,
        title=title,
        source="",
        command=command_line("experiments.restoring"),
        rows=rows,
        notes="See the docstring of experiments/restoring.py.",
        folder=folder,
    )


def build(construction: Restoring, scenario: Scenario) -> ONNArtifact:
    """Construct an ONN and evaluate all inputs."""
    network, design = construction.build(scenario)
    with tempfile.TemporaryDirectory() as folder:
        return save_artifact(
            Path(folder),
            network=network,
            design=design,
            evaluation=evaluate_exhaustively(network, scenario),
            seed=0,
            epochs=0,
            seconds=0.0,
            device=torch.device("cpu"),
            command="",
        )


def _parts_row(name: str, construction: Restoring, *, chips: int) -> dict[str, str | float]:
    """Measure one form of scenario 1."""
    scenario = Scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")
    onn = build(construction, scenario)
    differing = [
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in asdict(construction).items()
        if v != asdict(Restoring())[k]
    ]
    row: dict[str, str | float] = {
        "form": name,
        "construction": " ".join(differing) or "default",
        "layers": str(len(onn.network.linears)),
        "neurons": str(sum(onn.card.structure[1:])),
        "MZIs": str(onn.card.mzi_count),
        "MZIs, bare diagonals": str(onn.parts.bare_mzis),
        "attenuators": str(attenuators(onn)),
    }
    for effect, (settings, number) in CHIPS.items():
        chip = ChipNetwork.draw(onn, settings, chips=number or chips)
        row[effect] = 100 * float(chip_accuracy(chip, repeats=4 if chip.dynamic else 1).mean())
    note(", ".join(f"{key} {value}" for key, value in row.items()))
    return row


def attenuators(onn: ONNArtifact) -> int:
    """Return the attenuators of an ONN's crossbars: its nonzero weights and biases."""
    parts = map_crossbar(onn).parts
    return parts.weights + parts.biases


def _noise_row(
    name: str, onn_inputs: int, construction: Restoring, *, inputs: int
) -> dict[str, str | float]:
    """Measure one ONN of 16 bits."""
    scenario = Scenario(bits=16, servers=4, onn_inputs=onn_inputs, rounding="half_even")
    network, design = construction.build(scenario)
    row: dict[str, str | float] = {
        "ONN": name,
        "layers": str(len(network.linears)),
        "neurons": str(sum(design.structure[1:])),
    }
    for centred in (True, False):
        for noise in LEVELS:
            right = sampled_right(network, scenario, noise=noise, centred=centred, inputs=inputs)
            bound = least_share(right, inputs)
            column = f"{100 * noise:g} %, {'centred' if centred else 'uncentred'}"
            row[column] = f"{100 * right / inputs:.3f} (> {100 * bound:.3f})"
    note(", ".join(f"{key} {value}" for key, value in row.items()))
    return row


@torch.no_grad()
def sampled_right(
    network: OpticalNetwork,
    scenario: Scenario,
    *,
    noise: float,
    centred: bool,
    inputs: int,
    seed: int = 0,
) -> int:
    """Count the random inputs that are received right under noise on every layer's inputs.

    Args:
        network: The network.
        scenario: The switch that it serves.
        noise: Standard deviation, as a share of a layer's full scale.
        centred: Whether the full scale of layer 1 is that of the amplitudes around the reference,
            and receivers are without noise; else that of the light, and receivers have the noise.
        inputs: Number of inputs.
        seed: Seed of inputs and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    scales = uncentred_scales(network, scenario)
    if centred:
        ends = torch.tensor([0.0, scenario.full_scale]) * network.input_scale + network.input_offset
        scales[0] = float(ends.abs().max())
    index_P = torch.randint(scenario.combinations, (inputs,), generator=generator)
    right = 0
    for batch in torch.split(index_P, BATCH_SIZE):
        averages, symbols = samples_of_index(batch, scenario)
        amplitudes = noisy_forward(
            network, averages, noise=noise, full_scales=scales, generator=generator
        )
        if not centred:
            random = torch.randn(amplitudes.shape, generator=generator)
            amplitudes = amplitudes + noise * (pam4.AMPLITUDES - 1) * random
        right += int((outputs.receive(amplitudes, scenario) == symbols).all(-1).sum())
    return right


def least_share(right: int, sent: int, *, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided lower bound of Clopper and Pearson on the share that is right.

    Args:
        right: Number right of those sent.
        sent: Number sent.
        confidence: Probability with which the share exceeds the bound.
    """
    wrong = torch.arange(sent - right + 1, dtype=torch.float64)
    if len(wrong) > sent:
        return 0.0
    count = torch.tensor(float(sent), dtype=torch.float64)
    ways = (count + 1).lgamma() - (wrong + 1).lgamma() - (count - wrong + 1).lgamma()
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        odds = torch.tensor([1 - share, share], dtype=torch.float64).log()
        # So few wrong ones have the probability 1 - confidence at the bound.
        if float((ways + wrong * odds[0] + (count - wrong) * odds[1]).exp().sum()) < 1 - confidence:
            low = share
        else:
            high = share
    return low


if __name__ == "__main__":
    main()
