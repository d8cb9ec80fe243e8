"""Write the badges of the README, pictures of facts that stand in the repository.

    python -m website.badges

They are files of ours, since a service that draws them would be asked by every reader of a page.
What only a host knows, such as whether the tests pass, has no badge here.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from website.links import DOCS, ROOT
from website.release_notes import version

FOLDER = ROOT / DOCS / "badges"

BLUE, GREEN, GREY = "#1f6fb2", "#2c7a3f", "#555"

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" \
aria-label="{name}: {value}">
<title>{name}: {value}</title>
<clipPath id="c"><rect width="{width}" height="20" rx="3"/></clipPath>
<g clip-path="url(#c)"><rect width="{left}" height="20" fill="{grey}"/>\
<rect x="{left}" width="{right}" height="20" fill="{color}"/></g>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">\
<text x="{name_at}" y="14" textLength="{name_length}">{name}</text>\
<text x="{value_at}" y="14" textLength="{value_length}">{value}</text></g>
</svg>
"""

ADVANCE, MARGIN = 6.5, 6
"""Pixels of a character, to which the text is stretched whatever the font, and beside the text."""


def badge(name: str, value: str, color: str) -> str:
    """Draw a name on grey beside its value on a colour, as SVG."""
    name_length, value_length = (round(ADVANCE * len(text)) for text in (name, value))
    left, right = name_length + 2 * MARGIN, value_length + 2 * MARGIN
    return SVG.format(
        name=escape(name),
        value=escape(value),
        color=color,
        grey=GREY,
        width=left + right,
        left=left,
        right=right,
        name_at=left / 2,
        name_length=name_length,
        value_at=left + right / 2,
        value_length=value_length,
    )


def _one(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"expected one {pattern!r}, found {found}")
    return str(found[0])


def badges() -> dict[str, str]:
    """Return the SVG of every badge, by the name of its file."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    pythons = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    return {
        "version.svg": badge("version", version(), BLUE),
        "python.svg": badge("Python", f"{pythons[0]} to {pythons[-1]}", BLUE),
        "license.svg": badge("license", _one(r'^license = "(.+)"$', project), GREEN),
        "paper.svg": badge("paper", _one(r'^ +value: "(arXiv:.+)"$', citation), "#b31b1b"),
    }


def main(folder: Path = FOLDER) -> None:
    """Write the badges."""
    folder.mkdir(exist_ok=True)
    for name, svg in badges().items():
        (folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
