"""Render sections, plots and provenance into one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.common.record import RESULTS, Result, conditions
from experiments.report.content import Section, download, raw
from experiments.report.sections import sections
from experiments.report.svg import to_svg

MOST_ROWS = 200
"""Largest number of rows shown on the page; longer files can be downloaded."""
MOST_OPEN = 30
"""Largest number of rows of a table that is open from the start."""


def build(folder: Path = RESULTS) -> str:
    """Return the page as HTML that loads nothing.

    Args:
        folder: Folder of the results.

    Raises:
        MalformedResultError: If a result is damaged.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["number_like"] = _is_number
    shown = list(sections(folder))
    return environment.get_template("page.html").render(
        sections=shown,
        plots={section.key: _draw(section) for section in shown},
        conditions=conditions(),
        download=download,
        origins=_origins,
        raw=raw,
        most_rows=MOST_ROWS,
        most_open=MOST_OPEN,
    )


def _draw(section: Section) -> list[tuple[str, Markup]]:
    """Return caption and SVG of every plot of a section."""
    drawn = []
    for number, plot in enumerate(section.plots):
        svg = to_svg(plot.figure, key=f"{section.key}-{number}", label=plot.caption)
        drawn.append((plot.caption, Markup(svg)))  # noqa: S704  (matplotlib escapes its texts)
    return drawn


def _origins(results: Sequence[Result]) -> list[tuple[dict[str, Any], list[Result]]]:
    """Group neighbouring results of equal provenance."""
    groups: list[tuple[dict[str, Any], list[Result]]] = []
    for result in results:
        origin = {key: value for key, value in result.origin.items() if key != "title"}
        if groups and groups[-1][0] == origin:
            groups[-1][1].append(result)
        else:
            groups.append((origin, [result]))
    return groups


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number, which is aligned to the right."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
