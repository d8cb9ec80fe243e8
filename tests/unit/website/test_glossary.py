"""The glossary names settings that exist; test_links checks the modules that it links to."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import OmegaConf

from optinc.tasks.main import CONF
from tests.documents import read
from tests.hydra_jobs import composed

LINES = [line for line in read("docs/glossary.md").splitlines() if line.startswith("| ")]
ROWS = [
    cells
    for cells in (line.strip("| ").split(" | ") for line in LINES)
    if cells[0] not in ("word", "---")
]


def test_every_word_stands_once_with_its_place_in_the_paper_and_in_the_code() -> None:
    words = [row[0] for row in ROWS]
    assert len(words) == len(set(words)) > 40
    for word, _, paper, here in ROWS:
        assert re.search(r"^ours$|Sec\.|eqs?\.|Tables? I|Fig\.", paper), word
        assert re.search(r"\]\(|`\S+`", here), word


def test_every_setting_exists(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "optinc/topology=cascade")
    settings = [setting for *_, here in ROWS for setting in re.findall(r"`(\S+)`", here)]
    assert len(settings) > 30
    for setting in settings:
        name, chooses, option = setting.partition("=")
        if chooses:
            assert (CONF / name / f"{option}.yaml").is_file(), setting
        else:
            parent, _, key = name.rpartition(".")
            assert key in set(OmegaConf.select(cfg, parent) if parent else cfg), setting
