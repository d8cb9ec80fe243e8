"""``run.py`` and ``optinc`` as a user starts them.

Covers: optinc.tasks.main, optinc.tasks.one_run, optinc.__main__
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import wandb

import optinc
from optinc.onn import zoo
from optinc.tasks.main import CONF
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
        "  python run.py reducer=ring\n",
    ):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80
    # Every group that a user chooses from is explained.
    explained = shown.partition("Options:")[0]
    for group in CONF.iterdir():
        if group.is_dir() and group.name not in ("hydra", "paths"):
            assert re.search(rf"\b{group.name}\b", explained), group.name


ANSWERED = """
import sys
from optinc.tasks.main import main
for arguments in (["--help"], ["--version"], ["--cfg", "job"], ["optinc.bit=4"], ["model=resnet"]):
    sys.argv = ["run.py", *arguments]
    try:
        main()
    except SystemExit:
        pass
print([name for name in ("torch", "pytorch_lightning", "transformers") if name in sys.modules])
"""


def test_help_the_version_and_misspelt_settings_are_answered_without_torch() -> None:
    done = python("-c", ANSWERED)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Key 'bit' not in 'OptINCConfig'" in done.stderr
    assert "Could not find 'model/resnet'" in done.stderr


def test_the_module_is_the_command_and_its_version_the_project_s() -> None:
    assert python("-m", "optinc", "--version").stdout == f"optinc {optinc.__version__}\n"


def test_messages_name_the_command_that_was_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["optinc.servers=5", f"hydra.run.dir={tmp_path}"]
    assert command(*arguments, started="/usr/bin/optinc") == 2
    assert "\n    optinc task=train_onn optinc.bits=8" in capsys.readouterr().err
    assert command("--help", started="/usr/bin/optinc") == 0
    assert "run.py" not in capsys.readouterr().out


def test_a_run_begins_and_ends_with_lines_that_say_what_and_what_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onn = "onn=b8_n4_half_even_smallest"
    assert command("task=evaluate_onn", onn, f"hydra.run.dir={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"OptINC {optinc.__version__}: task=evaluate_onn {onn}",
        f"  into {tmp_path}",
    ]
    result, name, area, folder, following = lines[-5:]
    assert result.startswith("result  none of 28,561 inputs received wrong; smallest margin 0.")
    assert name == "ONN     b8_n4_half_even_smallest, 4-10-10-10-10-7-5-4, 484 MZIs, 99.2 % of the"
    assert area == "        area without approximation"
    assert folder == f"folder  {tmp_path}"
    assert following == f"next    python run.py task=map_onn {onn}"


def test_a_training_has_no_epochs_below_zero_and_no_operations_nobody_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [each for each in TINY if not each.startswith("trainer.enable")]
    steps = ["trainer.max_steps=2", "trainer.limit_val_batches=1"]
    assert command(*shown, *steps, f"hydra.run.dir={tmp_path}") == 0
    written = capsys.readouterr().out
    assert "LlamaForCausalLM: " in written
    assert "Epoch 1" in written
    assert "FLOPs" not in written
    assert "/-" not in written
    assert "result  val_loss " in written


def test_wandb_is_imported_only_where_asked_for() -> None:
    code = "import optinc.tasks.main, optinc.tasks.train, optinc.tasks.train_onn, sys; "
    python("-c", code + "sys.exit('wandb' in sys.modules)")


@pytest.mark.usefixtures("no_wandb_account")
def test_wandb_works_offline_and_closes_its_runs(tmp_path: Path) -> None:
    sweep = ["-m", "logger=wandb", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    assert command(*sweep, *TINY, "trainer.max_steps=1") == 0
    assert wandb.run is None
    wandb.teardown()  # its service writes on after a run has ended
    sha256 = zoo.load_named("b8_n4_half_even_all_layers").card.weights_sha256
    runs = list(tmp_path.glob("*/wandb/offline-run-*/*.wandb"))
    assert len({path.name for path in runs}) == 2
    for path in runs:
        data = path.read_bytes()
        assert b"weights_sha256" not in data
        assert b"train_loss" in data
        assert f"onn-{sha256[:12]}".encode() in data
        assert (path.parent.parent.parent / "metrics.csv").is_file()
