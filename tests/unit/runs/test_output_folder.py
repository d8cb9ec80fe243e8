from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from optinc.errors import OutputError
from optinc.runs import locks
from optinc.runs import output_folder as output
from optinc.runs.output_folder import OutputFolder, check_output
from optinc.tasks.main import run
from tests.hydra_jobs import composed

needs_proc = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder no user can write to"
)


def test_a_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot write into paths\.output_dir=") as caught:
            check_output(folder)
        assert str(folder) in str(caught.value)
        assert "hydra.run.dir" in str(caught.value)


@needs_proc
def test_a_folder_that_cannot_be_written_is_refused_before_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hydra.utils.get_method", lambda path: pytest.fail("the task started"))
    with pytest.raises(OutputError, match=r"paths\.output_dir=/proc/run"):
        run(composed(Path("/proc/run")))


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OutputError, match="No space left on device"):
        output.check_output(tmp_path)


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_hydra_s_folder_is_refused_with_one_line_and_status_2(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    config = configuration(tmp_path / "file" / "run", kind=kind)
    callback = OutputFolder()
    with pytest.raises(SystemExit) as caught:
        (callback.on_run_start if kind == "run" else callback.on_multirun_start)(config)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write into hydra.{kind}.dir={tmp_path}")


def configuration(folder: object, *, kind: str = "run", **settings: Any) -> Any:
    """What Hydra hands to its callbacks."""
    return OmegaConf.create(
        {
            "hydra": {
                kind: {"dir": str(folder)},
                "overrides": {"hydra": []},
                "runtime": {"choices": {"task": "train", "strategy": "ddp"}},
                "output_subdir": ".hydra",
                "job": {"name": "run"},
            },
            **settings,
        }
    )


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    OmegaConf.register_new_resolver("now", lambda pattern: "noon", replace=True)
    yield
    locks.release_all()
    setup_globals()


@pytest.mark.usefixtures("_alone")
def test_a_folder_named_by_the_time_that_is_taken_gets_a_suffix(tmp_path: Path) -> None:
    names = []
    for kind in ("run", "run", "sweep"):
        config = configuration(f"{tmp_path}/${{now:%H}}", kind=kind)
        getattr(OutputFolder(), "on_run_start" if kind == "run" else "on_multirun_start")(config)
        names.append(Path(config.hydra[kind].dir).name)
    assert names == ["noon", "noon-2", "noon-3"]
    # The jobs of a sweep are composed from these.
    assert config.hydra.overrides.hydra == [f'hydra.sweep.dir="{tmp_path}/noon-3"']


@pytest.mark.usefixtures("_alone")
def test_a_folder_given_by_hand_that_is_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(SystemExit) as caught:
        OutputFolder().on_run_start(configuration(tmp_path))
    assert caught.value.code == 2
    assert f"hydra.run.dir={tmp_path} is in use by another run" in capsys.readouterr().err
    config = configuration(tmp_path)
    OutputFolder().on_run_start(config)
    assert config.hydra.run.dir == str(tmp_path)


@pytest.mark.usefixtures("_alone")
def test_a_home_folder_is_given_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configuration("~/runs/a")
    OutputFolder().on_run_start(config)
    assert config.hydra.run.dir == str(tmp_path / "runs" / "a")
    assert (tmp_path / "runs" / "a").is_dir()


@pytest.mark.usefixtures("_alone")
def test_other_processes_take_the_folder_of_the_first_and_leave_its_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(output, "told_by_first", lambda look_up: tmp_path / "first")
    config = configuration(f"{tmp_path}/${{now:%H}}")
    OutputFolder().on_run_start(config)
    assert config.hydra.run.dir == str(tmp_path / "first")
    assert config.hydra.output_subdir is None
    assert config.hydra.job.name == "run_process_1"
    assert not list(tmp_path.iterdir())
    # One that Lightning started has been given the folder.
    given = configuration(tmp_path / "given")
    OutputFolder().on_run_start(given)
    assert given.hydra.run.dir == str(tmp_path / "given")


@pytest.mark.usefixtures("_alone")
def test_auto_needs_a_folder_that_can_be_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        OutputFolder().on_run_start(configuration(f"{tmp_path}/${{now:%H}}", resume="auto"))
    assert "name the folder, for example hydra.run.dir=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "other", ["data.root=b", "trainer.max_steps=8", "trainer.limit_train_batches=3", "seed=2"]
)
def test_a_requeued_command_finds_its_own_folder(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings of one SLURM job, whatever they differ in."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    base = ("model=llama", "data=text", "data.root=a", "trainer.max_steps=4")
    task = OmegaConf.create({"hydra": {"runtime": {"choices": {"task": "train"}}}})
    configurations = {}
    for name, settings in (("first", base), ("second", (*base, other))):
        configurations[name] = composed(tmp_path, *settings)
        hydra_s = tmp_path / name / ".hydra"
        hydra_s.mkdir(parents=True)
        OmegaConf.save(configurations[name], hydra_s / "config.yaml")
        OmegaConf.save(task, hydra_s / "hydra.yaml")
        (tmp_path / name / ".run.json").write_text(json.dumps({"job": "7"}))
    for name, cfg in configurations.items():
        whole = OmegaConf.merge(OmegaConf.to_container(cfg, resolve=False), task)
        assert isinstance(whole, DictConfig)
        found = output._of_earlier_start(whole, f"{tmp_path}/${{now:%H}}")
        assert found == tmp_path / name
