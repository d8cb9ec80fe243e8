"""Demo: a ResNet50 learns while a trained optical neural network averages its gradients.

    python -m experiments.demo [--runs runs/demo] [model=resnet50]

Trains with exact averaging and with OptINC, and leaves both runs and ``curves.png`` in ``--runs``.
Overrides of run.py hold for both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from experiments.common.options import add_runs, command_parser, parse_with_overrides
from experiments.common.runs import curve, run
from experiments.common.tables import Column, note, show

ARMS = {"ring": "ring (exact mean)", "optinc": "OptINC (trained ONN)"}
GOAL = 0.9


COLUMNS = [
    Column("reducer", "reducer"),
    Column("val. acc.", "val_acc", ".2%"),
    Column("val. loss", "val_loss", ".3f"),
    Column("seconds", "seconds", ".0f"),
    Column("reducing", "reducer_seconds", ".0f"),
    Column("quant. error", "quantization_error", ".2%"),
    Column("ONN errors", "onn_error_rate", ".2%"),
]


def main() -> None:
    """Run both arms, and print and plot them side by side."""
    parser = command_parser(__doc__)
    add_runs(parser, "runs/demo")
    arguments, overrides = parse_with_overrides(parser)
    folder: Path = arguments.runs
    summaries = {
        reducer: run(folder / reducer, "experiment=demo", f"reducer={reducer}", *overrides)
        for reducer in ARMS
    }
    plot = plot_curves(folder)
    show(
        f"{model_name(summaries)} on handwritten digits, four virtual servers, same seed",
        COLUMNS,
        comparison(summaries),
    )
    note(f"Learning curves: {plot}")
    note(sentence(summaries))


def comparison(summaries: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the end points of both learning curves, without optical errors of the ring."""
    optical = ("quantization_error", "onn_error_rate")
    return [
        {
            **summary,
            "reducer": ARMS[reducer],
            **({} if summary["fidelity"] is not None else dict.fromkeys(optical)),
        }
        for reducer, summary in summaries.items()
    ]


def model_name(summaries: dict[str, dict[str, Any]]) -> str:
    """Return the name of the model, such as ResNet50."""
    name: str = summaries["optinc"]["model"]
    return name.replace("resnet", "ResNet")


def sentence(summaries: dict[str, dict[str, Any]]) -> str:
    """Return the result of the demo in one sentence."""
    ring, optinc = summaries["ring"], summaries["optinc"]
    points = 100 * (optinc["val_acc"] - ring["val_acc"])
    traffic = optinc["bytes_ring_same_bits"] / optinc["bytes_optinc"]
    verdict = "learned" if optinc["val_acc"] > GOAL else "did not learn well"
    return (
        f"{model_name(summaries)} {verdict} with every gradient of four servers averaged by a "
        f"trained optical neural network: {optinc['val_acc']:.1%} of unseen digits right, "
        f"{points:+.1f} points against exact averaging, while each server sends its 8-bit gradient "
        f"once where a ring sends it {traffic:.2f} times."
    )


def plot_curves(folder: Path) -> Path:
    """Plot training loss and validation accuracy of both arms, and return the picture's path."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, (loss_axes, accuracy_axes) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for reducer, style in (("ring", "--"), ("optinc", "-")):
        loss_axes.plot(*curve(folder / reducer, "train_loss"), style, label=ARMS[reducer])
        steps, accuracy = curve(folder / reducer, "val_acc")
        percent = [100 * value for value in accuracy]
        accuracy_axes.plot(steps, percent, style, marker="o", label=ARMS[reducer])
    loss_axes.set(xlabel="optimiser step", ylabel="training loss of server 0")
    accuracy_axes.set(xlabel="optimiser step", ylabel="validation accuracy, %")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
