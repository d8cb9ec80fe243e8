"""``run.py`` and ``optinc`` as a user starts them.

Covers: optinc.tasks.main
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optinc.onn import zoo
from tests.hydra_jobs import TINY, command, job
from tests.processes import python


def test_a_multirun_sweeps_and_leaves_a_summary_for_every_run(tmp_path: Path) -> None:
    sweep = ["-m", "reducer=ring,optinc", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    assert command(*sweep, *TINY, "trainer.max_steps=3") == 0
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")]
    arms = {(summary["reducer"], summary["seed"]) for summary in summaries}
    assert arms == {("ring", 1), ("ring", 2), ("optinc", 1), ("optinc", 2)}
    assert len({summary["weights_sha256"] for summary in summaries}) == 4
    comparison, _ = job(tmp_path / "x", "task=compare", f"runs={tmp_path}")
    assert comparison["runs"] == [str(tmp_path / str(number)) for number in range(4)]
    assert comparison["settings"] == ["reducer", "seed"]
    assert (tmp_path / "x" / "comparison.png").is_file()


def test_an_illegal_setting_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    done = python("run.py", "optinc.bits=7", f"hydra.run.dir={tmp_path}", status=2)
    assert done.stderr.strip() == (
        "error: optinc.bits must be even, 2 to 16 (two bits a PAM4 symbol), got 7"
    )


def test_help_explains_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    shown = capsys.readouterr().out
    for word in (
        "fidelity",
        "table (the trained ONN, tabulated)",
        "reducer: bf16, fp16, int8_blocks",
    ):
        assert word in shown


def test_wandb_is_imported_only_where_asked_for() -> None:
    code = "import optinc.tasks.main, optinc.tasks.train, optinc.tasks.train_onn, sys; "
    python("-c", code + "sys.exit('wandb' in sys.modules)")


def test_wandb_works_offline_and_closes_its_runs(tmp_path: Path) -> None:
    python(
        "run.py",
        "-m",
        "logger=wandb",
        "seed=1,2",
        *TINY,
        "trainer.max_steps=1",
        f"hydra.sweep.dir={tmp_path}",
    )
    sha256 = zoo.load_named("b8_n4_half_even_all_layers").card.weights_sha256
    runs = list(tmp_path.glob("*/wandb/offline-run-*/*.wandb"))
    assert len({path.name for path in runs}) == 2
    for path in runs:
        data = path.read_bytes()
        assert b"weights_sha256" not in data
        assert b"train_loss" in data
        assert f"onn-{sha256[:12]}".encode() in data
        assert (path.parent.parent.parent / "metrics.csv").is_file()
