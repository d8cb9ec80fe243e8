"""The demo: a ResNet50 learns while a trained optical neural network averages its gradients.

python -m experiments.demo [--folder runs/demo]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from experiments.common.runs import curve, run

ARMS = {"ring": "ring (exact mean)", "optinc": "OptINC (trained ONN)"}
GOAL = 0.9


def main() -> None:
    """Run both arms, and print and plot them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"))
    folder: Path = parser.parse_args().folder.resolve()
    summaries = {
        reducer: run(folder / reducer, "experiment=demo", f"reducer={reducer}") for reducer in ARMS
    }
    plot = plot_curves(folder)
    console = Console()
    console.print(comparison(summaries))
    console.print(f"Learning curves: {plot}")
    console.print(sentence(summaries))


def comparison(summaries: dict[str, dict[str, Any]]) -> Table:
    """Return the end points of both learning curves as a table."""
    table = Table(title="ResNet50 on handwritten digits, four virtual servers, same seed")
    for heading in ("reducer", "val. acc.", "val. loss", "seconds", "reducing"):
        left = heading == "reducer"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    table.add_column("quant. error", justify="right")
    table.add_column("ONN errors", justify="right")
    for reducer, summary in summaries.items():
        optical = summary["fidelity"] is not None
        table.add_row(
            ARMS[reducer],
            f"{summary['val_acc']:.2%}",
            f"{summary['val_loss']:.3f}",
            f"{summary['seconds']:.0f}",
            f"{summary['reducer_seconds']:.0f}",
            f"{summary['quantization_error']:.2%}" if optical else "-",
            f"{summary['onn_error_rate']:.2%}" if optical else "-",
        )
    return table


def sentence(summaries: dict[str, dict[str, Any]]) -> str:
    """Say what happened."""
    ring, optinc = summaries["ring"], summaries["optinc"]
    points = 100 * (optinc["val_acc"] - ring["val_acc"])
    traffic = optinc["bytes_ring_same_bits"] / optinc["bytes_optinc"]
    verdict = "learned" if optinc["val_acc"] > GOAL else "did not learn well"
    return (
        f"ResNet50 {verdict} with every gradient of four servers averaged by a trained optical "
        f"neural network: {optinc['val_acc']:.1%} of unseen digits right, {points:+.1f} points "
        f"against exact averaging, while each server sends its 8-bit gradient once where a ring "
        f"sends it {traffic:.2f} times."
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
