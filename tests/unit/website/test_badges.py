from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import optinc
from website import badges
from website.links import ROOT


def test_the_badges_of_the_readme_say_what_is_true() -> None:
    shown = re.findall(r"docs/badges/(\w+\.svg)", (ROOT / "README.md").read_text(encoding="utf-8"))
    stored = {path.name: path.read_text(encoding="utf-8") for path in badges.FOLDER.glob("*.svg")}
    assert set(shown) == set(stored)
    assert stored == badges.badges(), "python -m website.badges"
    assert f"<title>version: {optinc.__version__}</title>" in stored["version.svg"]
    assert "<title>Python: 3.10 to 3.13</title>" in stored["python.svg"]


def test_a_badge_is_a_picture_as_wide_as_its_texts(tmp_path: Path) -> None:
    root = ET.fromstring(badges.badge("a & b", "<c>", "#123"))  # noqa: S314  (our own)
    assert root.attrib["aria-label"] == "a & b: <c>"
    texts = root.findall(".//{*}text")
    assert [text.text for text in texts] == ["a & b", "<c>"]
    lengths = [int(text.attrib["textLength"]) for text in texts]
    assert int(root.attrib["width"]) == sum(lengths) + 4 * badges.MARGIN
    badges.main(tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 4
