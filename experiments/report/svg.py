"""Figures as SVG inside the page: its text, its font, its colours on light and on dark screens."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.common.arms import INK
from experiments.report.plots import GREY, STYLE

NAMELESS = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Metadata that would change from day to day, or say nothing."""

COLOURS = {INK: "currentColor", GREY: "var(--line)"}
"""Colours that follow the page."""

NUMBERS = re.compile(r' (?:d|x|y|width|height)="[^"]*"')


def to_svg(figure: Figure, *, key: str, label: str) -> str:
    """Return a figure as an ``<svg>`` element, the same for the same figure.

    Args:
        figure: The figure.
        key: What no other figure of the page has: the names of parts that are used again derive
            from it.
        label: What a reader is told who does not see it.
    """
    file = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": key}):
        figure.savefig(file, format="svg", metadata=NAMELESS)
    drawn = file.getvalue()
    opening = f'<svg role="img" aria-label="{escape(label)}"'
    text = drawn[drawn.index("<svg") :]
    text = re.sub(
        r'<svg[^>]*( viewBox="[^"]*")[^>]*>', lambda found: f"{opening}{found[1]}>", text, count=1
    )
    # Its style would be that of the whole page.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<g id=([\"'])title:(.*?)\1>", r"<g><title>\2</title>", text)
    text = re.sub(r'<g id="[^"]*"\s*/>', "", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r"font-family: [^;\"]*(?:; )?", "", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = NUMBERS.sub(lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    for colour, ours in COLOURS.items():
        text = text.replace(colour, ours)
    return re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", text)).strip()
