"""What ``resume=auto`` repeats of the run in its folder; whole runs are in ``tests/integration``.

Covers: optinc.tasks.repeated_settings
"""

from __future__ import annotations

from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.runs.run_record import add_to_record
from optinc.tasks.repeated_settings import with_stored_settings

BEFORE = ["model=llama", "model.layers=1", "optinc/topology=cascade", "trainer.max_steps=3"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that began with :data:`BEFORE`."""
    add_to_record(tmp_path, overrides=BEFORE)
    return tmp_path


def test_settings_of_the_run_come_first_and_what_is_typed_wins(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["resume=auto", f"hydra.run.dir={run}"]
    assert with_stored_settings(typed) == [*BEFORE, *typed]
    assert f"repeats the settings of {run}: model=llama " in capsys.readouterr().out
    # A group that is typed replaces the values below it as well.
    typed += ["model=resnet18", "trainer.max_steps=5"]
    assert with_stored_settings(typed) == ["optinc/topology=cascade", *typed]
    # As a process of strategy=ddp that the first one starts with its own command line.
    assert with_stored_settings([*BEFORE, *typed[:2]]) == [*BEFORE, *typed[:2]]


@pytest.mark.parametrize(
    "typed",
    [
        ["hydra.run.dir={run}"],
        ["resume=never", "hydra.run.dir={run}"],
        ["resume=auto"],
        ["resume=auto", "hydra.run.dir={run}/new"],
        ["resume=auto", "hydra.run.dir='runs/${{now:%Y}}'"],
    ],
)
def test_other_command_lines_stay_as_they_are(typed: list[str], run: Path) -> None:
    arguments = [each.format(run=run) for each in typed]
    assert with_stored_settings(arguments) == arguments


def test_flags_stay_in_front_and_folders_in_quotes_are_read(run: Path) -> None:
    folder = run / "step=3"
    folder.mkdir()
    add_to_record(folder, overrides=["seed=2"])
    typed = ["--info", "resume=auto", f'hydra.run.dir="{folder}"']
    assert with_stored_settings(typed) == ["--info", "seed=2", *typed[1:]]
    own = ["--config-dir", "conf", *typed[1:]]
    assert with_stored_settings(own) == ["--config-dir", "conf", "seed=2", *typed[1:]]


def test_changes_are_allowed_for_one_start_and_an_old_beginning_is_not_looked_for(
    tmp_path: Path,
) -> None:
    first = ["ckpt_path=gone.ckpt", "resume_changed=true", "resume=auto", "seed=2"]
    add_to_record(tmp_path, overrides=first)
    typed = ["resume=auto", f"hydra.run.dir={tmp_path}"]
    assert with_stored_settings(typed) == ["ckpt_path=gone.ckpt", "seed=2", *typed]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert with_stored_settings(typed) == ["seed=2", *typed]


def test_runs_of_before_have_hydra_s_list(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    path = tmp_path / ".hydra" / "overrides.yaml"
    path.write_text("- reducer=ring\n- 'data.root=a b'\n")
    typed = ["resume=auto", f"hydra.run.dir={tmp_path}"]
    assert with_stored_settings(typed) == ["reducer=ring", "data.root=a b", *typed]
    for damaged in ("{", "a: 1"):
        path.write_text(damaged)
        with pytest.raises(ConfigurationError, match=r"overrides\.yaml"):
            with_stored_settings(typed)
