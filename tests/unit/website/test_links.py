from __future__ import annotations

from pathlib import Path

import pytest

from website import links


@pytest.mark.parametrize("document", links.documents())
def test_links_and_anchors_lead_somewhere(document: str) -> None:
    assert links.dead_links(document) == []


def test_links_in_code_are_left_out() -> None:
    text = "`[a](b.md)` and [`c`](d.md)\n```bash\nx [e](f.md)\n```\n![g](h.png) [i](#j)"
    assert list(links.targets(text)) == ["d.md", "h.png", "#j"]


def test_a_dead_file_and_a_dead_anchor_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(links, "ROOT", tmp_path)
    (tmp_path / "b.md").write_text("# B b\n\n```\n# not a heading\n```\n")
    text = "[1](b.md#b-b) [2](b.md#not-a-heading) [3](c.md) [4](https://c.org) [5](#x)"
    (tmp_path / "a.md").write_text(text)
    assert links.dead_links("a.md") == ["b.md#not-a-heading", "c.md", "#x"]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## What comes back: `optinc.downlink`", "what-comes-back-optincdownlink"),
        ("## `fidelity=chip`", "fidelitychip"),
        ("# Table I's [structures](a.md), *Sigma U* layers", "table-is-structures-sigma-u-layers"),
        ("# Losses - in dB #", "losses---in-db"),
    ],
)
def test_anchors_are_those_of_code_hosts(heading: str, anchor: str) -> None:
    assert links.anchors(heading) == {anchor}


def test_repeated_headings_are_numbered() -> None:
    assert links.anchors("# A\n## A\n## A") == {"a", "a-1", "a-2"}


@pytest.mark.parametrize(
    ("document", "link", "there"),
    [
        ("README.md", "docs/extend.md#model", "extend.md#model"),
        ("README.md", "optinc/signal/pam4.py", "reference/signal/pam4.md"),
        ("docs/photonics.md", "../README.md", "index.md"),
        ("docs/photonics.md", "../experiments/results/a.csv", "files/experiments/results/a.csv"),
        ("docs/photonics.md", "../benchmarks/results/wire.md", "benchmarks/wire.md"),
        ("docs/photonics.md", "#here", "#here"),
        ("docs/photonics.md", "https://arxiv.org/a.md", "https://arxiv.org/a.md"),
        ("benchmarks/results/wire.md", "wire.png", "../files/benchmarks/results/wire.png"),
        ("benchmarks/GPU.md", "../optinc/__init__.py", "../reference/index.md"),
    ],
)
def test_links_on_the_site(document: str, link: str, there: str) -> None:
    assert links.for_site(f"see [it]({link}).", document) == f"see [it]({there})."
