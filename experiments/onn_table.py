"""Tables I and II: a published row, the zoo's ONN for it, and both side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, save
from experiments.common.runs import run
from experiments.common.tables import Column, markdown, show
from optinc.commands import path_override
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.photonics import area
from optinc.signal.scenario import DEFAULT_ROUNDING, make_scenario

COLUMNS = [
    Column(name, name)
    for name in (
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
        "MZIs built",
        "splitters",
        "combiners",
        "splitting dB",
        "optical depth",
        "made by",
        "trained wrong",
        "trained errors",
        "trained s",
        "trained on",
        "constructed wrong",
        "constructed s",
        "source",
    )
]


@dataclass(frozen=True)
class PaperRow:
    """A row of Table I or II as published.

    Attributes:
        bits, servers: The scenario.
        layers: Approximated layers, counted from 1.
        accuracy: Accuracy, %.
        area: Area over that of the dense ONN, %.
        errors: Error values with their shares of all errors, as in the paper.
    """

    bits: int
    servers: int
    layers: tuple[int, ...]
    accuracy: float
    area: float
    errors: str = "none"

    @property
    def design(self) -> ONNDesign:
        """Design of the row's ONN: Table I's structure, default rounding."""
        scenario = make_scenario(
            bits=self.bits, servers=self.servers, onn_inputs="auto", rounding=DEFAULT_ROUNDING
        )
        return ONNDesign.from_settings(scenario=scenario, hidden="table1", layers=self.layers)


def run_table(name: str, title: str, rows: list[PaperRow], description: str | None) -> None:
    """Print a table, the paper's values beside ours, and write it as CSV and Markdown.

    A row shows the ONN that its switch takes by default, the shipped one that is wrong least often,
    and then what training and construction reach.

    Args:
        name: Name of the result's files, and of the module below ``experiments``.
        title: Title of the printed table.
        rows: The published rows.
        description: Text of ``--help``.
    """
    parser = command_parser(description)
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train every row's ONN into --runs; an interrupted training continues",
    )
    parser.add_argument("--verify", action="store_true", help="recompute exhaustive accuracy")
    parser.add_argument(
        "--most-inputs",
        type=int,
        help="leave out scenarios with more possible inputs, and write nothing",
    )
    add_runs(parser, f"runs/{name}")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.most_inputs is not None:
        rows = [r for r in rows if r.design.scenario.combinations <= arguments.most_inputs]
    runs = arguments.runs if arguments.retrain else None
    cells = [_measure(row, runs=runs, verify=arguments.verify) for row in rows]
    # The command of a missing ONN is too long for the console.
    short = [row | {"source": row["source"].split(":")[0]} for row in cells]
    show(title, COLUMNS, short)
    if arguments.most_inputs is None:
        _write(name, title, cells, folder=arguments.results)


def _measure(row: PaperRow, *, runs: Path | None, verify: bool) -> dict[str, str]:
    """Return the cells of one row; without an ONN, its source is the command that trains one.

    Args:
        row: The published row.
        runs: Folder in which the ONN is trained; None takes the zoo's.
        verify: Recompute the exhaustive accuracy instead of reading the card.
    """
    design = row.design
    ratio = area.area_ratio(design.structure, design.approximated_layers, servers=row.servers)
    cells = dict.fromkeys((column.key for column in COLUMNS), "")
    cells |= {
        "bits": str(row.bits),
        "servers": str(row.servers),
        "layers approximated": ",".join(str(layer) for layer in row.layers) or "none",
        "paper accuracy %": f"{row.accuracy:.7g}",
        "paper errors": row.errors,
        "paper area %": f"{row.area:g}",
        # Area follows from the structure alone.
        "area %": f"{100 * ratio:.2f}",
        **_parts(area.network_parts(design.structure, design.approximated_layers)),
    }
    if runs is None:
        onns = [ONNArtifact.load(zoo.ZOO / name) for name in zoo.of_design(design)]
    else:
        onns = [_train(row, runs)]
    if not onns:
        return cells | {"source": f"not trained yet: `{design.train_command}`"}
    measured = [_measured(onn, verify=verify) for onn in onns]
    ways = [_by_way(each, onn) for each, onn in zip(measured, onns, strict=True)]
    # The first of a way is its best.
    return (
        cells | {key: value for way in reversed(ways) for key, value in way.items()} | measured[0]
    )


def _parts(parts: area.PartCounts) -> dict[str, str]:
    """Return the cells that count parts: the paper's MZIs, then what is built."""
    return {
        "MZIs": str(parts.mzis),
        "MZIs built": str(parts.built_mzis),
        "splitters": str(parts.splitters),
        "combiners": str(parts.combiners),
        "splitting dB": f"{parts.splitting_db:.1f}",
        "optical depth": str(parts.optical_depth),
    }


def _measured(onn: ONNArtifact, *, verify: bool) -> dict[str, str]:
    """Return the cells that depend on the weights, from the card or recomputed."""
    card = onn.card
    wrong, errors, source = card.wrong_inputs, card.error_values, "card"
    if verify:
        evaluation = evaluate_exhaustively(onn.network, card.scenario, progress=True)
        wrong, errors, source = evaluation.wrong_inputs, evaluation.error_values, "recomputed"
    shares = {value: count / wrong for value, count in errors.items()}
    return {
        "accuracy %": f"{100 * (1 - wrong / card.exhaustive_inputs):.5f}".rstrip("0").rstrip("."),
        "wrong inputs": f"{wrong} of {card.exhaustive_inputs}",
        "errors": ", ".join(f"{value:+d} ({share:.1%})" for value, share in shares.items())
        or "none",
        "made by": "training" if card.epochs else "construction",
        "source": source,
        **_parts(onn.parts),
    }


def _by_way(measured: dict[str, str], onn: ONNArtifact) -> dict[str, str]:
    """Return the cells of the way in which an ONN was made: by training, or by construction."""
    seconds = f"{onn.card.seconds:.0f}"
    if not onn.card.epochs:
        return {"constructed wrong": measured["wrong inputs"], "constructed s": seconds}
    return {
        "trained wrong": measured["wrong inputs"],
        "trained errors": measured["errors"],
        "trained s": seconds,
        "trained on": onn.card.hardware,
    }


def _train(row: PaperRow, runs: Path) -> ONNArtifact:
    """Train a row's ONN with the command that a user would type; resume an interrupted training."""
    layers = "-".join(str(layer) for layer in row.layers) or "none"
    folder = runs / f"b{row.bits}_n{row.servers}_{layers}"
    if not (folder / "onn" / CARD_FILE).is_file():
        overrides = row.design.train_overrides
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            overrides.append(path_override("ckpt_path", checkpoint))
        # A row shows how many inputs are wrong.
        run(folder, *overrides, wrong_inputs=True)
    return ONNArtifact.load(folder / "onn")


def _write(name: str, title: str, cells: list[dict[str, str]], *, folder: Path) -> None:
    """Write the rows as CSV, with their provenance, and as Markdown."""
    save(
        name,
        title=f"Accuracy on all inputs and area, {title}",
        source=title,
        command=command_line(f"experiments.{name}"),
        rows=cells,
        notes="Trained and constructed: the best shipped ONN of each, none where a cell is empty; "
        "s is the wall time that made it, with the trainings that it started from. MZIs are the "
        "paper's count; MZIs built have the ports and attenuators of biases, no mesh in diagonal "
        "layers and no attenuator without light; splitters and combiners divide inputs, blocks "
        "and reference beams.",
        folder=folder,
    )
    lines = [f"# {title}", "", f"`python -m experiments.{name}`", "", *markdown(COLUMNS, cells)]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
