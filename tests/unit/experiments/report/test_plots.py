"""What figures of the report draw, and how they stand in the page: its plots, svg and sentences."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure

from experiments.common import arms
from experiments.common.arms import BITS, COLOURS, DESIGNS, INK, SPARE
from experiments.report import content, page, plots, sentences
from experiments.report.svg import to_svg
from optinc.tasks.arms import Band

TEMPLATE = (Path(page.__file__).parent / "page.html").read_text(encoding="utf-8")


NAME = 'a <b> & "c" $d$'
"""A name that is not safe in markup, nor in formulas."""

POINTS = {NAME: ([0.001, 1000.0], [1.0, 3.0]), "other": ([0.01, 10.0], [2.0, 2.0])}
BAND = Band(steps=[1, 2], mean=[1, 2], lowest=[0, 1], highest=[2, 3])
ONE_SEED = Band(steps=[5], mean=[2], lowest=[2], highest=[2])
INTERVAL = plots.Interval(NAME, 0.2, 0.1, 0.3, colour=INK, unseen=0.05, note="worse")
LABELS = {NAME: ["one", "two"], "other": ["three", "four"]}
TWO = {NAME: INK, "other": INK}

KINDS: dict[str, Callable[[], Figure]] = {
    "bars": lambda: plots.bars(["group"], {NAME: [2.5], "other": [None]}, x="x"),
    "lines": lambda: plots.lines(POINTS, x="x", y="y", logarithmic="x", markers=True),
    "bands": lambda: plots.bands({NAME: BAND, "other": ONE_SEED}, TWO, x="x", y="y"),
    "intervals": lambda: plots.intervals([INTERVAL], x="x", grey="too small"),
    "scatter": lambda: plots.scatter(POINTS, LABELS, x="x", y="y", logarithmic="x"),
}


def texts(svg: str) -> list[str]:
    """What a reader reads, titles under the pointer apart."""
    return [text.text or "" for text in ET.fromstring(svg).iter("text")]  # noqa: S314


def titles(svg: str) -> list[str]:
    return [title.text or "" for title in ET.fromstring(svg).iter("title")]  # noqa: S314


def test_examples_of_sentences() -> None:
    for module, examples in ((sentences, 3), (content, 1), (arms, 2)):
        assert doctest.testmod(module) == (0, examples)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_figure_is_the_same_each_time_and_keeps_to_itself(kind: str) -> None:
    first, again = (to_svg(KINDS[kind](), key="k-0", label='x < "y"') for _ in range(2))
    other = to_svg(KINDS[kind](), key="k-1", label="x")
    assert first == again
    names = [re.findall(r' id="([^"]+)"', svg) for svg in (first, other)]
    assert len(set(names[0] + names[1])) == len(names[0]) + len(names[1])
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', first)) <= set(names[0])
    root = ET.fromstring(first)  # noqa: S314
    assert root.get("aria-label") == 'x < "y"'
    assert root.get("viewBox", "").startswith(f"0 0 {plots.WIDTH:g} ")
    assert "width" not in root.attrib
    assert not re.search(r"<style|http|font-family|<metadata|\d{4}-\d\d-\d\d", first)


TOLD = {
    "bars": [f"group, {NAME}: 2.5"],
    "lines": [NAME, "other"],
    "bands": [f"{NAME}: all seeds", NAME, "other"],
    "intervals": [f"{NAME}: 0.2, from 0.1 to 0.3; worse"],
    "scatter": ["one", "two", "three", "four"],
}
"""What the pointer tells."""


@pytest.mark.parametrize("kind", list(KINDS))
def test_texts_stay_texts_and_colours_follow_the_page(kind: str) -> None:
    svg = to_svg(KINDS[kind](), key="k", label="l")
    assert titles(svg) == TOLD[kind]
    assert NAME in texts(svg)
    assert "x" in texts(svg)
    assert INK not in svg
    assert plots.GREY not in svg
    assert "currentColor" in svg


def test_bars_have_the_length_of_their_values() -> None:
    figure = plots.bars(["a", "b"], {"x": [1.0, -2.0], "y": [None, 3.0]}, x="x", form=".1f")
    (axes,) = figure.axes
    bars = [bar for container in axes.containers for bar in container]
    assert [bar.get_width() for bar in bars] == [1.0, -2.0, 3.0]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in bars]
    # Series of a group follow each other, groups stand apart, the first on top.
    assert middles == pytest.approx([0.0, 3.5, 4.5])
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["1.0", "-2.0", "3.0", "a", "b"]
    low, high = axes.get_xlim()
    assert low < -2.0
    assert high > 3.0


def test_one_seed_has_no_band() -> None:
    (axes,) = KINDS["bands"]().axes
    assert [band.get_label() for band in axes.collections] == [NAME]
    assert [line.get_marker() for line in axes.lines] == ["", "o"]


def test_numbers_of_logarithmic_axes_are_plain() -> None:
    svg = to_svg(KINDS["lines"](), key="k", label="l")
    assert {"0.001", "0.1", "1000"} <= set(texts(svg))
    few = plots.lines({"a": ([2.0, 30.0], [1.0, 2.0])}, x="x", y="y", logarithmic="x")
    assert {"2", "5", "10", "20"} <= set(texts(to_svg(few, key="k", label="l")))


def test_intervals_may_lie_left_of_larger_ones() -> None:
    rows = [plots.Interval(str(i), i, i - 1, i + 1, colour=INK) for i in (1, 2)]
    (axes,) = plots.intervals(rows, x="x", reverse=True, linear_within=0.5).axes
    assert axes.xaxis_inverted()
    assert axes.get_xscale() == "symlog"
    words = texts(to_svg(axes.figure, key="k", label="l"))
    assert {"0", "1", "2"} & set(words)
    assert not any("$" in word for word in words)
    places = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert places == [0, 1]
    assert axes.yaxis_inverted()


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_seen_on_light_and_on_dark_screens() -> None:
    """3 to 1 for parts of graphics, 4.5 to 1 for text (WCAG 2.2, 1.4.11 and 1.4.3)."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    pages = re.findall(r"--page: (#\w{6})", TEMPLATE)
    inks, softs, links = (
        re.findall(rf"--{n}: (#\w{{6}})", TEMPLATE) for n in ("ink", "soft", "link")
    )
    assert len(pages) == len(inks) == len(softs) == len(links) == 2
    assert inks[0] == INK
    for background, *text in zip(pages, inks, softs, links, strict=True):
        assert min(contrast(each, background) for each in text) >= 4.5
        drawn = {*COLOURS.values(), *DESIGNS.values(), *BITS.values(), *SPARE} - {INK}
        assert min(contrast(each, background) for each in drawn) >= 3
    for name in ("measured", "modelled", "scaled", "smoke", "missing"):
        backgrounds = re.findall(rf"--{name}: (#\w{{6}})", TEMPLATE)
        assert all(contrast(*pair) >= 4.5 for pair in zip(inks, backgrounds, strict=True))


def test_neighbouring_spare_colours_differ() -> None:
    assert all(one != other for one, other in pairwise(SPARE))
    assert len(set(SPARE)) == len(SPARE)
