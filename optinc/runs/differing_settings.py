"""Settings that differ between runs, and labels made of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from optinc.folders import expanded
from optinc.runs.finished_runs import FinishedRun
from optinc.runs.summary import CHOICES

SUMMARY_SETTINGS = (
    *("task", *CHOICES, "scale", "fidelity"),
    *("bits", "servers", "seed", "checkpoint"),
)
"""Settings that a summary holds."""

NOT_SETTINGS = {
    *("choices", "paths", "logger", "runs", "scales", "hydra"),
    *("resume", "resume_changed", "objective"),
}
"""Parts of the configuration that do not change the results."""

TRAINED_BY = (
    *("task", "model", "data", "reducer", "seed"),
    *("trainer.precision", "trainer.accumulate_grad_batches"),
    *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"),
)
"""Settings that a training depends on, with all that they refer to."""

ONN_TRAINED_BY = {
    "train_onn": ("task", "onn_training.module", "seed"),
    "tune_cascade": ("task", "cascade_tuning.module", "optinc.onn", "seed"),
}
"""The same of the tasks that train ONNs."""

NOT_RESULTS = {"cache", "cache_dir", "output_dir", "download", "backend", "on_device"}
"""Last names of settings that say where or how something is done, not what comes out."""

ROOT = ".root"
"""Last name of a folder of data, whatever way leads there."""

LENGTHS = re.compile(r"(onn_training|cascade_tuning)\.(module\.)?max_(epochs|steps)")
"""Lengths of the trainings of ONNs, which may go on for longer than was asked for at first."""

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*?)(?=[.]?\$\{|\})")
"""The name of a value that another one repeats, or the part of it before a nested one."""

OUR_CLASS = r"optinc(?:\.[a-z_0-9]+)+\.([A-Z]\w*(?:\.\w+)?)"
"""A class of this package, or one of its methods, by its full name."""


def differing_settings(runs: Sequence[FinishedRun]) -> list[dict[str, str]]:
    """Return the settings that differ between runs, with equal keys for every run.

    Options of groups come first. A value below a group is listed only if it differs between runs
    with equal options of that group. If any run lacks its stored configuration, only
    :data:`SUMMARY_SETTINGS` are compared.
    """
    stored = [run.stored for run in runs if run.stored is not None]
    if len(stored) < len(runs):
        settings = [{key: run.summary.get(key) for key in SUMMARY_SETTINGS} for run in runs]
        return _differing(settings, groups=set())
    groups = {
        name for each in stored for name in each.choices if name.split("/")[0] not in NOT_SETTINGS
    }
    settings = []
    for run, each in zip(runs, stored, strict=True):
        content = OmegaConf.to_container(each.config, resolve=False)
        assert isinstance(content, dict)
        values = _flatten({k: v for k, v in content.items() if k not in NOT_SETTINGS})
        # A run that was stopped in between, and went on from its own checkpoint, is no other one.
        checkpoint = values.get("ckpt_path")
        if checkpoint and expanded(checkpoint).resolve().is_relative_to(run.folder.resolve()):
            values["ckpt_path"] = None
        settings.append({name: each.choices.get(name) for name in sorted(groups)} | values)
    return _differing(settings, groups=groups)


def labels(runs: Sequence[FinishedRun], settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a label for every run: its differing settings, with its folder if not unique."""
    names = [", ".join(f"{key}={value}" for key, value in each.items()) for each in settings]
    return [
        name if names.count(name) == 1 and name else f"{name} ({run.folder})".strip()
        for name, run in zip(names, runs, strict=True)
    ]


def training_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that the results of a training depend on, by their dotted names.

    These are the values of :data:`TRAINED_BY`, or :data:`ONN_TRAINED_BY`, and all values that those
    refer to, without :data:`NOT_RESULTS`, :data:`LENGTHS` and citations: ``reducer=ring`` depends
    on no ``optinc.bits``.
    """
    content = OmegaConf.to_container(cfg, resolve=False)
    found: dict[str, Any] = {}
    task = str(value_at(content, "task._target_")).rpartition(".")[2]
    todo = list(ONN_TRAINED_BY.get(task, TRAINED_BY))
    for path in todo:
        for name, raw in _flatten(value_at(content, path), path).items():
            if name in found or name.split(".")[-1] in NOT_RESULTS or ".sources." in name:
                continue
            if LENGTHS.fullmatch(name):
                continue
            value = raw
            if isinstance(raw, str) and "${" in raw:
                todo += REFERENCE.findall(raw)
                value = OmegaConf.select(cfg, name, throw_on_missing=False)
            if name.endswith(ROOT) and isinstance(value, str):
                value = str(expanded(value).resolve())
            # The values inside a node that is referred to stand under its own name.
            if not isinstance(value, DictConfig) and name.split(".")[0] not in ("scale", "scales"):
                found[name] = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    return found


def command_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return all settings that tell two commands apart, length and limits too, as they stand."""
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    return _flatten({k: v for k, v in content.items() if k not in NOT_SETTINGS | {"ckpt_path"}})


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings of a training that differ, as ``name=value (before: value)``.

    A value that repeats another one is not named, nor what belongs to one of two classes only. An
    argument that a run of another version lacks had its default there.

    Args:
        before: :func:`training_settings` of the run that is continued.
        now: Those of the present run.
    """
    changes: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys([*now, *before]):
        owner = f"{name.rpartition('.')[0]}._target_"
        of_both = owner in now and _text(now[owner]) == _text(before.get(owner))
        # Older runs do not tell where their data lay.
        told = name in now and name in before
        if not told and (not of_both or name.endswith(ROOT)):
            continue
        default = "-" if name in now and name in before else _default(now[owner], name)
        change = _text(now.get(name, default)), _text(before.get(name, default))
        if change[0] != change[1]:
            changes[change] = min(changes.get(change, name), name, key=len)
    return [
        f"{name.removesuffix('._target_')}={new} (before: {old})"
        for (new, old), name in changes.items()
    ]


def _default(owner: str, name: str) -> Any:
    """Return the default of the setting ``name``, an argument of a class; ``-`` if it has none."""
    try:
        parameters = inspect.signature(get_object(owner)).parameters
    except (ImportError, ValueError, TypeError):
        return "-"
    parameter = parameters.get(name.rpartition(".")[2])
    return "-" if parameter is None or parameter.default is parameter.empty else parameter.default


def _flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by their dotted path."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _flatten(value, f"{path}.{key}" if path else str(key))
    return found


def value_at(content: Any, path: str) -> Any:
    """Return the value of nested dictionaries at a dotted path, None if there is none."""
    node = content
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _differing(settings: Sequence[dict[str, Any]], *, groups: set[str]) -> list[dict[str, str]]:
    """Keep settings that differ between runs with equal options of the groups above them."""
    texts = [{name: _text(value) for name, value in each.items()} for each in settings]
    names = list(dict.fromkeys(name for each in texts for name in each))
    shown = []
    for name in names:
        path = name.replace("/", ".") + "."
        above = [group for group in groups if path.startswith(group.replace("/", ".") + ".")]
        alike: dict[tuple[str | None, ...], set[str]] = {}
        for each in texts:
            options = tuple(each.get(group) for group in above if group != name)
            alike.setdefault(options, set()).add(each.get(name, "-"))
        if any(_differ(values) for values in alike.values()):
            shown.append(name)
    return [{name: each.get(name, "-") for name in shown} for each in texts]


def _differ(values: set[str]) -> bool:
    """Whether runs differ in a setting, ``-`` standing for a run without it."""
    present = values - {"-"}
    # A reference repeats another setting: a run without it lacks nothing.
    repeated = all(value.startswith("${") for value in present)
    return len(present) > 1 or (len(values) > 1 and not repeated)


def _text(value: Any) -> str:
    """Return a value as typed on a command line; a class of ours by its name without its module.

    Modules move between versions, and runs of two versions can be compared.
    """
    ours = re.fullmatch(OUR_CLASS, value) if isinstance(value, str) else None
    if ours:
        return ours[1]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
