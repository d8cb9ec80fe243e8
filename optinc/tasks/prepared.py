"""Preparation of the configuration for a task: absolute paths, and choices without a Hydra job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from optinc.commands import path_override
from optinc.errors import ConfigurationError
from optinc.runs.differing_settings import value_at
from optinc.runs.output_folder import expanded
from optinc.tasks.unknown_settings import conf_dir

PATHS = (
    *("ckpt_path", "onn", "runs", "paths.output_dir", "paths.cache_dir", "data.root"),
    *("data.source", "data.cache_dir", "onn_training.initial", "onn_training.folder"),
    "onn_import.weights",
    *("optinc.topology.onns", "search.folder", "cascade_tuning.folder"),
    "callbacks.checkpoint.dirpath",
)
"""Settings that may name a file or a folder."""


def prepare(cfg: DictConfig) -> DictConfig:
    """Return the configuration with ``~`` and environment variables in paths in full.

    In a notebook, where Hydra composes a configuration but starts no job, the choices are found by
    what was composed.

    Raises:
        ConfigurationError: If the output folder is that of a job, and there is no job.
    """
    cfg = cfg.copy()
    with open_dict(cfg):
        if not HydraConfig.initialized():
            cfg.choices = chosen(cfg)
            try:
                str(cfg.paths.output_dir)
            except OmegaConfBaseException as error:
                raise ConfigurationError(
                    "paths.output_dir must be given where Hydra starts no job, for example "
                    "paths.output_dir=runs/notebook"
                ) from error
        for group in ("logger", "callbacks"):
            # logger=null and ~logger take the group away.
            if OmegaConf.is_missing(cfg, group):
                cfg[group] = None
        if OmegaConf.is_dict(cfg.model):
            cfg.model.setdefault("scheduler", None)
        content = OmegaConf.to_container(cfg, resolve=False)
        for name in PATHS:
            given = value_at(content, name)
            if isinstance(given, str) and _has_shorthand(given):
                OmegaConf.update(cfg, name, str(expanded(given)))
            elif isinstance(given, list):
                OmegaConf.update(cfg, name, [str(expanded(str(each))) for each in given])
    return cfg


def refuse_dotted_groups(overrides: Sequence[str]) -> None:
    """Refuse ``optinc.topology=cascade``, which would replace the whole node by a word.

    Raises:
        ConfigurationError: Names the option as it must be typed.
    """
    for text in overrides:
        name, found, value = text.lstrip("+").partition("=")
        group = name.replace(".", "/")
        is_word = value not in ("null", "") and value[0] not in "{$'\""
        if found and is_word and "." in name and _is_group(group):
            raise ConfigurationError(
                f"{name} is a group, whose options are chosen by {group}={value}"
            )


def as_hydra_takes_them(overrides: Sequence[str]) -> list[str]:
    """Return overrides without what Hydra's grammar refuses.

    These are ``logger=null``, written ``~logger``, and paths that begin with ``~`` or ``$HOME``,
    which a shell leaves alone behind an equals sign.
    """
    return [_as_hydra_takes_it(text) for text in overrides]


def _as_hydra_takes_it(text: str) -> str:
    name, _, value = text.partition("=")
    if value == "null" and _is_group(name):
        return f"~{name}"
    if value.startswith(("~", "$")) and _has_shorthand(value):
        return path_override(name, expanded(value))
    return text


def refuse_words_for_groups(cfg: DictConfig) -> None:
    """Refuse a word in the place of a whole node, see :func:`refuse_dotted_groups`."""
    content = OmegaConf.to_container(cfg, resolve=False)
    nodes = {
        folder.relative_to(conf_dir()).as_posix().replace("/", ".")
        for folder in conf_dir().glob("*/*/")
    }
    words = {name: value_at(content, name) for name in sorted(nodes)}
    refuse_dotted_groups(
        [f"{name}={word}" for name, word in words.items() if isinstance(word, str)]
    )


def chosen(cfg: DictConfig) -> dict[str, str | None]:
    """Return the option of every group that is most like what was composed, None if empty."""
    choices: dict[str, str | None] = {}
    for folder in sorted({path.parent for path in conf_dir().glob("*/**/*.yaml")}):
        group = folder.relative_to(conf_dir()).as_posix()
        if group in ("experiment", "arm", "debug"):
            choices[group] = None
            continue
        node = OmegaConf.select(cfg, group.replace("/", "."), throw_on_resolution_failure=False)
        if isinstance(node, DictConfig):
            values = OmegaConf.to_container(node, resolve=False)
            options = sorted(path for path in folder.glob("*.yaml") if path.stem != "base")
            choices[group] = max(options, key=lambda path: _likeness(path, values)).stem
        else:
            choices[group] = None
    return choices


def _is_group(name: str) -> bool:
    return bool(name) and any((conf_dir() / name).glob("*.yaml"))


def _likeness(option: Path, values: Any) -> int:
    """Return how many values an option shares with a node, less those that it does not."""
    return sum(
        1 if values.get(key, object()) == value else -1
        for key, value in values_of_option(option).items()
    )


def values_of_option(option: Path) -> dict[str, Any]:
    """Return the values of an option over those of the options in its folder that it builds on."""
    content = OmegaConf.to_container(OmegaConf.load(option), resolve=False)
    assert isinstance(content, dict)
    values: dict[str, Any] = {}
    for default in content.pop("defaults", []):
        if isinstance(default, str) and default != "_self_":
            name, _, package = default.partition("@")
            inherited = values_of_option(option.with_name(f"{name}.yaml"))
            values |= {package: inherited} if package else inherited
    return values | {str(key): value for key, value in content.items()}


def _has_shorthand(path: str) -> bool:
    # ${...} is an interpolation, whose value is expanded where it stands.
    return "${" not in path and (path.startswith("~") or "$" in path)
