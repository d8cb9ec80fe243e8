"""Time of a step of an ONN's training whose Muon takes float32, beside torch's Muon in bfloat16.

    python -m benchmarks.muon [--quick] [--save [NAME]]

Structures of Table I, batches of 1,024 random inputs; one thread, no GPU. Each step by torch's Muon
follows one by ours. Then a quarter of the hidden neurons is off for all inputs, as in long
trainings, and their momentum has decayed to denormal numbers: a step of ours as it is, which takes
them for 0, follows one that multiplies them. ``--quick`` takes the structure of scenario 1 alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import torch

from benchmarks.measure import seconds
from benchmarks.record import Row, publish
from experiments.common.options import command_parser
from experiments.common.tables import Column
from optinc.onn import zoo
from optinc.onn.network import OpticalNetwork
from optinc.onn.training import optimizers
from optinc.onn.training.optimizers import Muon, make_optimizers

ONNS = {
    "8 bits, 4 servers": "b8_n4_half_even_dense",
    "8 bits, 8 servers": "b8_n8_half_even_dense",
    "16 bits, 4 servers": "b16_n4_half_even_dense",
}
"""Shipped ONNs of the paper's structures by scenario."""

BATCH = 1024
ROUNDS = 7

COLUMNS = [
    Column("scenario", "scenario"),
    Column("forward and backward, ms", "passes", ".1f"),
    Column("Muon in bfloat16, ms", "theirs", ".1f"),
    Column("Muon in float32, ms", "ours", ".1f"),
    Column("bfloat16 / float32", "ratio", ".1f"),
    Column("whole step, bfloat16 / float32", "step_ratio", ".1f"),
    Column("neurons off: Muon in float32, ms", "off", ".1f"),
    Column("the same, multiplying denormals, ms", "denormal", ".1f"),
    Column("denormals / without", "off_ratio", ".1f"),
]


def measure(scenario: str, network: OpticalNetwork) -> Row:
    """Take turns with both optimisers on the weights that Muon trains."""
    adam, ours = make_optimizers(network, "muon", learning_rate=1e-6)
    assert isinstance(ours, Muon)
    weights = [weight for group in ours.param_groups for weight in group["params"]]
    theirs = torch.optim.Muon(weights, lr=1e-6, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    inputs_PK = torch.rand(
        BATCH, network.linears[0].in_features, generator=torch.Generator().manual_seed(0)
    )

    def passes() -> None:
        network.zero_grad()
        network(inputs_PK).square().mean().backward()

    middle = _medians(
        {"passes": passes, "adam": adam.step, "ours": ours.step, "theirs": theirs.step}
    )
    same = middle["passes"] + middle["adam"]
    turn_off(network, ours)
    passes()
    off = _medians({"off": ours.step, "denormal": lambda: _with_denormals(ours)})
    return {
        "scenario": scenario,
        "passes": middle["passes"],
        "theirs": middle["theirs"],
        "ours": middle["ours"],
        "ratio": middle["theirs"] / middle["ours"],
        "step_ratio": (same + middle["theirs"]) / (same + middle["ours"]),
        **off,
        "off_ratio": off["denormal"] / off["off"],
    }


def _medians(turns: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of each, taking turns."""
    rounds = [{name: seconds(turn) for name, turn in turns.items()} for _ in range(ROUNDS + 1)]
    # The first round allocates.
    return {name: 1e3 * median(each[name] for each in rounds[1:]) for name in turns}


@torch.no_grad()
def turn_off(network: OpticalNetwork, muon: Muon) -> None:
    """Let a quarter of all hidden neurons be off for every input, and their momentum be decayed.

    A neuron is off long before another: momenta of 1e-10 to 1e-40 are left.
    """
    generator = torch.Generator().manual_seed(0)
    layers = network.linears
    for i, layer in enumerate(layers[:-1]):
        off = torch.arange(0, layer.out_features, 4)
        layer.bias[off] = -1e3
        for weight, place in ((layer.weight, (off,)), (layers[i + 1].weight, (slice(None), off))):
            if weight in muon.state:
                momentum = muon.state[weight]["momentum_buffer"]
                left = 10.0 ** -torch.empty(len(off)).uniform_(10, 40, generator=generator)
                left = left.unsqueeze(1) if len(place) == 1 else left
                momentum[place] = left * torch.randn(momentum[place].shape, generator=generator)


def _with_denormals(muon: Muon) -> None:
    """Take a step in which no entry is taken for 0."""
    share, optimizers.VANISHING = optimizers.VANISHING, 0.0
    try:
        muon.step()
    finally:
        optimizers.VANISHING = share


def draw(rows: list[Row], path: Path) -> None:
    """Draw the time of both beside that of the passes."""
    figure, axis = plt.subplots(figsize=(7, 1.2 + 1.1 * len(rows)))
    height = 0.17
    for k, column in enumerate([*COLUMNS[1:4], *COLUMNS[6:8]]):
        bars = axis.barh(
            [i + k * height for i in range(len(rows))],
            [float(row[column.key] or 0) for row in rows],
            height=height,
            label=column.heading.removesuffix(", ms").replace("the same", "neurons off"),
        )
        axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.set_yticks(
        [i + 2 * height for i in range(len(rows))], [str(row["scenario"]) for row in rows]
    )
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.margins(x=0.15)
    axis.set_xlabel("milliseconds a step of 1,024 inputs")
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table; with ``--save`` keep it in ``benchmarks/results``."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="scenario 1 alone")
    parser.add_argument(
        "--save",
        nargs="?",
        const="muon",
        metavar="NAME",
        help="keep table and plot (as %(const)s, or as NAME: processors differ)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    instructions = torch.backends.cpu.get_cpu_capability()
    rows = []
    for scenario, name in list(ONNS.items())[: 1 if arguments.quick else None]:
        network = zoo.load_named(name).network.train().requires_grad_(True)
        rows.append(measure(scenario, network))
    publish(
        "muon",
        title="Muon in float32 and in bfloat16 on a CPU",
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        notes=f"Medians of {ROUNDS} steps, on a CPU with {instructions}.",
        keep=arguments.save is not None,
        kept_as=arguments.save,
    )


if __name__ == "__main__":
    main()
