"""What Tables I and II share: rows, the ONN of each from the zoo, and how they are shown."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from experiments.common.record import RESULTS, command_line, save
from experiments.common.runs import ROOT
from optinc.errors import MissingONNError
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.photonics import area
from optinc.signal.scenario import DEFAULT_ROUNDING, make_scenario

COLUMNS = (
    "bits",
    "servers",
    "layers approximated",
    "paper accuracy %",
    "accuracy %",
    "wrong inputs",
    "paper errors",
    "errors",
    "paper area %",
    "area %",
    "MZIs",
    "made by",
    "seconds",
    "hardware",
    "source",
)


@dataclass(frozen=True)
class PaperRow:
    """A row as published.

    Attributes:
        bits, servers: The scenario.
        layers: 1-based layers approximated.
        accuracy: Accuracy in percent.
        area: Area ratio in percent.
        errors: Error values with their shares among the errors, as printed.
    """

    bits: int
    servers: int
    layers: tuple[int, ...]
    accuracy: float
    area: float
    errors: str = "none"

    @property
    def design(self) -> ONNDesign:
        """The ONN of this row, with Table I's structure and the default rounding."""
        scenario = make_scenario(
            bits=self.bits, servers=self.servers, onn_inputs="auto", rounding=DEFAULT_ROUNDING
        )
        return ONNDesign.from_settings(scenario=scenario, hidden="table1", layers=self.layers)


def run_table(name: str, title: str, rows: list[PaperRow], description: str | None) -> None:
    """Print a table, paper and measured side by side, and write it as CSV and Markdown.

    Args:
        name: File name of the results.
        title: Title of the printed table.
        rows: The rows as published.
        description: What ``--help`` says.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train every row into runs/, going on where it stopped",
    )
    parser.add_argument("--verify", action="store_true", help="recompute exhaustive accuracy")
    parser.add_argument(
        "--most-inputs", type=int, default=None, help="leave out scenarios with more inputs"
    )
    arguments = parser.parse_args()
    if arguments.most_inputs is not None:
        rows = [r for r in rows if r.design.scenario.combinations <= arguments.most_inputs]
    cells = [
        _measure(row, retrain=arguments.retrain, verify=arguments.verify, name=name) for row in rows
    ]
    _show(title, cells)
    if arguments.most_inputs is None:
        _write(name, title, cells)


def _measure(row: PaperRow, *, retrain: bool, verify: bool, name: str) -> dict[str, str]:
    """Return the cells of one row; an ONN that is not shipped shows the command that trains it."""
    design = row.design
    ratio = area.area_ratio(design.structure, design.approximated_layers, servers=row.servers)
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {
        "bits": str(row.bits),
        "servers": str(row.servers),
        "layers approximated": ",".join(str(layer) for layer in row.layers) or "none",
        "paper accuracy %": f"{row.accuracy:.7g}",
        "paper errors": row.errors,
        "paper area %": f"{row.area:g}",
        # Area follows from the structure, trained or not.
        "area %": f"{100 * ratio:.2f}",
        "MZIs": str(area.network_mzis(design.structure, design.approximated_layers)),
    }
    try:
        onn = _train(row, name) if retrain else _shipped(design)
    except MissingONNError:
        return cells | {"source": f"not trained yet: `{design.train_command}`"}
    card = onn.card
    wrong, errors, source = card.wrong_inputs, card.error_values, "card"
    if verify:
        evaluation = evaluate_exhaustively(onn.network, card.scenario, progress=True)
        wrong, errors, source = evaluation.wrong_inputs, evaluation.error_values, "recomputed"
    shares = {value: count / wrong for value, count in errors.items()}
    return cells | {
        "accuracy %": f"{100 * (1 - wrong / card.exhaustive_inputs):.5f}".rstrip("0").rstrip("."),
        "wrong inputs": f"{wrong} of {card.exhaustive_inputs}",
        "errors": ", ".join(f"{value:+d} ({share:.1%})" for value, share in shares.items())
        or "none",
        "made by": "training" if card.epochs else "construction",
        "seconds": f"{card.seconds:.0f}",
        "hardware": card.hardware,
        "source": source,
    }


def _shipped(design: ONNDesign) -> ONNArtifact:
    return zoo.load(
        None,
        scenario=design.scenario,
        hidden=design.structure[1:-1],
        layers=design.approximated_layers,
    )


def _train(row: PaperRow, name: str) -> ONNArtifact:
    """Train a row's ONN as a user would; go on with one that was interrupted."""
    layers = "-".join(str(layer) for layer in row.layers) or "none"
    folder = ROOT / "runs" / name / f"b{row.bits}_n{row.servers}_{layers}"
    if not (folder / "onn" / CARD_FILE).is_file():
        command = [sys.executable, *shlex.split(row.design.train_command)[1:]]
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            command.append(f"ckpt_path={checkpoint}")
        subprocess.run([*command, f"hydra.run.dir={folder}"], check=True, cwd=ROOT)
    return ONNArtifact.load(folder / "onn")


def _show(title: str, cells: list[dict[str, str]]) -> None:
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(row[column].split(":")[0] for column in COLUMNS))
    Console(width=200).print(table)


def _write(name: str, title: str, cells: list[dict[str, str]]) -> None:
    """Write the results as CSV and Markdown."""
    save(
        name,
        title=f"Accuracy on all inputs and area, {title}",
        source=title,
        command=command_line(f"experiments.{name}"),
        rows=cells,
        notes="Seconds and hardware of a row are those that made its ONN.",
    )
    lines = [
        f"# {title}",
        "",
        f"`python -m experiments.{name}`",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| " + " | ".join("---" for _ in COLUMNS) + " |",
        *("| " + " | ".join(row[column] for column in COLUMNS) + " |" for row in cells),
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
