"""The output folder of a run: one for every run, checked before anything long starts."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from optinc.atomic_file import reason
from optinc.errors import ConfigurationError, OptINCError, OutputError
from optinc.runs import locks
from optinc.runs.differing_settings import changed_settings, command_settings
from optinc.runs.processes import (
    launch_id,
    process_rank,
    start_id,
    tell_others,
    told_by_first,
)
from optinc.runs.resume import resumes_by_itself
from optinc.runs.run_record import add_to_record, folders_of_job, read_record
from optinc.runs.stored_configuration import read_configuration


def check_output(folder: Path | str, *, setting: str = "paths.output_dir") -> None:
    """Check that files can be written into a folder, which is created if missing.

    Args:
        folder: Output folder of a run.
        setting: Name of the setting, for the message.

    Raises:
        OutputError: If they cannot; names the setting and the reason.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-") as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise OutputError(
            f"cannot write into {setting}={folder}: {reason(error)}; choose another folder with "
            "hydra.run.dir (hydra.sweep.dir with -m)"
        ) from error


class OutputFolder(Callback):
    """Chooses, locks and checks the folder before Hydra writes into it.

    A folder named by the time gets a suffix if it is taken, and is found again by a SLURM job that
    was requeued. A folder given by hand must not be in use. All processes of a run share the
    folder of the first.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose the folder of a single run."""
        _choose_or_exit(config, kind="run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose the folder of a sweep."""
        _choose_or_exit(config, kind="sweep")


def _choose_or_exit(config: DictConfig, *, kind: str) -> None:
    locks.release_all()
    try:
        if kind == "run" and process_rank() > 0:
            folder = _of_first_process(config)
        else:
            folder = _chosen(config, kind=kind)
            tell_others(folder)
    except OptINCError as error:
        # Hydra turns exceptions of callbacks into warnings.
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    with read_write(config), open_dict(config):
        config.hydra[kind].dir = str(folder)
        if kind == "sweep":
            # Every job of the sweep is composed anew, from these.
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(folder)}")


def _chosen(config: DictConfig, *, kind: str) -> Path:
    """Return the locked folder of this run or sweep.

    Raises:
        OptINCError: If it is in use, or cannot be written.
    """
    setting = f"hydra.{kind}.dir"
    folder = expanded(config.hydra[kind].dir)
    pattern = _pattern(config, kind)
    if resumes_by_itself(config):
        earlier = _of_earlier_start(config, pattern) if _is_timed(pattern) else folder
        if earlier is not None:
            folder, pattern = earlier, str(earlier)
        elif launch_id() is None:
            raise ConfigurationError(
                f"resume=auto continues the run of a folder, and {setting}={folder} is a new one; "
                f"name the folder, for example {setting}=runs/first"
            )
    if _is_timed(pattern):
        check_output(folder.parent, setting=setting)
        folder = _new_folder(folder)
    else:
        check_output(folder, setting=setting)
        _refuse_evaluation_of_itself(config, folder)
        if not locks.hold(folder):
            raise OutputError(locks.used_by_another(folder, setting))
    job = launch_id()
    if job is not None:
        add_to_record(folder, job=job, start=start_id())
    return folder


def _new_folder(folder: Path) -> Path:
    """Make and lock a folder of this name, or with a suffix if there is one."""
    for number in itertools.count(1):
        name = folder.name if number == 1 else f"{folder.name}-{number}"
        candidate = folder.with_name(name)
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot make {candidate}: {reason(error)}") from error
        if locks.hold(candidate):
            return candidate
    raise AssertionError


def _of_first_process(config: DictConfig) -> Path:
    """Return the folder of the run's first process, and leave Hydra's files there to that one.

    Processes started by :mod:`optinc.strategies.launcher` have been given the folder.
    """
    folder = expanded(config.hydra.run.dir)
    pattern, job = _pattern(config, "run"), launch_id()

    def look_up() -> Path | None:
        found = folders_of_job(pattern, job) if job is not None else []
        return next((each for each in found if read_record(each)["start"] == start_id()), None)

    shares = config.hydra.runtime.choices.get("strategy") == "ddp" or "RANK" in os.environ
    first = told_by_first(look_up) if shares and _is_timed(pattern) else None
    if first is None:
        return folder
    with read_write(config), open_dict(config):
        config.hydra.output_subdir = None
        config.hydra.job.name = f"{config.hydra.job.name}_process_{process_rank()}"
    return first


def _of_earlier_start(config: DictConfig, pattern: str) -> Path | None:
    """Return the folder of the same run before its SLURM job was requeued, None if there is none.

    One job may hold several runs: the settings tell which.
    """
    job = launch_id()
    for folder in folders_of_job(pattern, job) if job is not None else []:
        stored = read_configuration(folder)
        if stored is None or stored.choices.get("task") != config.hydra.runtime.choices.get("task"):
            continue
        if not changed_settings(command_settings(stored.config), command_settings(config)):
            return folder
    return None


def _refuse_evaluation_of_itself(config: DictConfig, folder: Path) -> None:
    """Refuse to replace the configuration and the summary of the run that is evaluated."""
    checkpoint = OmegaConf.select(config, "ckpt_path")
    task = config.hydra.runtime.choices.get("task")
    if task != "evaluate" or checkpoint is None:
        return
    if expanded(checkpoint).resolve().is_relative_to(folder.resolve()):
        raise OutputError(
            f"{folder} is the folder of the run that wrote ckpt_path={checkpoint}; task=evaluate "
            "would replace its summary and configuration: choose another folder"
        )


def expanded(path: str) -> Path:
    """Return a path with ``~`` and environment variables (``$HOME``) in full."""
    return Path(os.path.expandvars(path)).expanduser()


def _pattern(config: DictConfig, kind: str) -> str:
    """Return the setting as it stands, with its resolvers."""
    node = OmegaConf.to_container(config.hydra[kind], resolve=False)
    assert isinstance(node, dict)
    return os.path.expandvars(str(node["dir"]))


def _is_timed(pattern: str) -> bool:
    return "${now:" in pattern


def _quoted(folder: Path) -> str:
    return '"' + str(folder).replace('"', '\\"') + '"'
