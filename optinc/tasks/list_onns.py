"""``task=list_onns``: the shipped ONNs by scenario, those of cascades apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.artifact import ONNCard
from optinc.runs.summary import write_summary
from optinc.tasks.csv_file import write_csv
from optinc.tasks.schema import COLUMNS

CSV_FILE = "onns.csv"

NAME_COLUMNS = 38
"""Width of the column with name and structure."""

FILTERS = {
    "optinc.bits": "bits",
    "optinc.servers": "servers",
    "optinc.preprocessing.inputs": "inputs",
    "optinc.rounding": "rounding",
    "optinc.downlink": "downlink",
}
"""Settings that narrow the list, where the command line names them, and the column of each."""


def list_onns(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Print the shipped ONNs, and write them as a CSV file.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the rows of the table.

    Raises:
        ConfigurationError: If the command line narrows the list by something else than
            :data:`FILTERS`, or no ONN is left.
    """
    wanted = _wanted(cfg)
    rows = [
        row
        for row in map(described, zoo.names())
        if all(row[column] == value for column, value in wanted.items())
    ]
    if not rows:
        given = ", ".join(f"{name}={wanted[c]}" for name, c in FILTERS.items() if c in wanted)
        raise ConfigurationError(f"no ONN is shipped for {given}; task=construct_onn makes one")
    folder = Path(cfg.paths.output_dir)
    console = Console(width=COLUMNS, highlight=False)
    for table in tables(rows):
        console.print(table)
    write_csv(folder / CSV_FILE, rows)
    summary = {"task": "list_onns", "onns": len(rows)}
    write_summary(folder, summary)
    return summary, {"rows": rows}


def described(name: str) -> dict[str, Any]:
    """Return what the card of a shipped ONN says of it, as a row of the CSV file."""
    card = zoo.card(name)
    return {
        "name": name,
        "bits": card.bits,
        "servers": card.servers,
        "inputs": card.inputs,
        "rounding": card.rounding,
        "downlink": card.downlink,
        "level": card.level,
        "keeps_decimal": card.keeps_decimal,
        "structure": "-".join(str(width) for width in card.structure),
        "mzi_count": card.mzi_count,
        "area_ratio": card.area_ratio,
        "wrong_inputs": card.wrong_inputs,
        "exhaustive_inputs": card.exhaustive_inputs,
        "made": made(card),
    }


def made(card: ONNCard) -> str:
    """Return ``trained``, or ``constructed`` where no epoch was needed."""
    return "trained" if card.epochs else "constructed"


def tables(rows: Sequence[dict[str, Any]]) -> Iterable[Table]:
    """Yield a table for each scenario: switches that stand alone first, then those of cascades."""
    ordered = sorted(rows, key=lambda row: (in_cascade(row), _order(row), row["mzi_count"]))
    for _, same in groupby(ordered, key=_order):
        yield _table(list(same))


def in_cascade(row: dict[str, Any]) -> bool:
    """Tell whether an ONN serves a level of a cascade, and no switch that stands alone."""
    return bool(row["level"] > 1 or row["keeps_decimal"])


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("bits", "servers", "level", "keeps_decimal", "inputs", "downlink", "rounding")
    return tuple(row[key] for key in keys)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=_title(rows[0]), title_justify="left", box=None, pad_edge=False)
    table.add_column("ONN and structure", width=NAME_COLUMNS)
    for name, width in (("MZIs", 9), ("area", 7), ("wrong", 5)):
        table.add_column(name, justify="right", min_width=width)
    table.add_column("made", min_width=len("constructed"))
    for row in rows:
        table.add_row(
            f"{row['name']}\n{_folded(row['structure'])}",
            f"{row['mzi_count']:,}",
            f"{100 * row['area_ratio']:.1f} %",
            f"{row['wrong_inputs']:,}",
            row["made"],
        )
    return table


def _title(row: dict[str, Any]) -> str:
    """Return what the ONNs of a table have in common."""
    place = "\n"
    if in_cascade(row):
        kind = "below the top" if row["keeps_decimal"] else "at the top"
        place = f"\nCascade, level {row['level']}, {kind}: "
    back = {"quantised": row["rounding"], "decimal": "the whole sum comes back"}[row["downlink"]]
    if row["keeps_decimal"]:
        back = "decimal part kept"
    return (
        f"{place}{row['bits']} bits, {row['servers']} servers, {back}\n"
        f"{row['inputs']} inputs of the ONN, {row['exhaustive_inputs']:,} combinations"
    )


def _folded(structure: str) -> str:
    """Return a structure in indented lines that fit its column, broken behind a width."""
    first, *widths = structure.split("-")
    lines = [f"  {first}"]
    for width in widths:
        if len(f"{lines[-1]}-{width}-") > NAME_COLUMNS:
            lines[-1] += "-"
            lines.append(f"  {width}")
        else:
            lines[-1] += f"-{width}"
    return "\n".join(lines)


def _wanted(cfg: DictConfig) -> dict[str, Any]:
    """Return the columns that the command line asks for, with their values.

    Raises:
        ConfigurationError: If it names a setting of ONNs or switches that does not narrow the list,
            or adds one that no task knows.
    """
    parser, wanted = OverridesParser.create(), {}
    for text in HydraConfig.get().overrides.task:
        name = parser.parse_override(text).key_or_group.replace("/", ".")
        if name in FILTERS:
            wanted[FILTERS[name]] = OmegaConf.select(cfg, name)
        elif text.startswith("+") or name.partition(".")[0] in ("onn", "optinc"):
            raise ConfigurationError(
                f"task=list_onns is narrowed by {' | '.join(FILTERS)}, not by {name}"
            )
    return wanted
