"""The help page, and what composes without a command line.

Covers: optinc.tasks.schema
"""

from __future__ import annotations

import pytest

from optinc.tasks.schema import COLUMNS
from tests.hydra_jobs import command


def test_options_of_all_groups_are_listed_in_lines_that_fit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command("--help") == 0
    options = capsys.readouterr().out.partition("Options:\n")[2].partition("\n\n")[0]
    assert max(map(len, options.splitlines())) <= COLUMNS
    joined = " ".join(options.split())
    assert "arm: chip_8, ideal_16, ideal_8, onn_16, onn_8, ring, table2_3_4_5_6," in joined
    assert "trainer: base, epochs, steps" in joined
    assert "hydra" not in options
