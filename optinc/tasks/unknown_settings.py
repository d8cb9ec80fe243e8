"""Settings that nothing reads, such as ``+optinc.bit=4``, with the nearest legal name."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from omegaconf import DictConfig, OmegaConf

import optinc
from optinc.errors import ConfigurationError

HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
"""Keys of every node that names something to call."""

NAMED_FREELY = {"logger", "callbacks"}
"""Nodes whose entries may have any name, each naming a class."""

FREE = {"choices", "scales", "runs"}
"""Nodes that hold data, not settings."""

FURTHER = {
    "optinc.strategies.ddp.OptINCDDPStrategy": (
        "pytorch_lightning.strategies.DDPStrategy",
        "torch.nn.parallel.DistributedDataParallel",
    ),
    "pytorch_lightning.loggers.WandbLogger": ("wandb.init",),
    "optinc.callbacks.metrics_file.MetricsFile": ("pytorch_lightning.loggers.CSVLogger",),
}
"""Where the further keyword arguments of a class go."""


def conf_dir() -> Path:
    """Return the configuration: inside an installed wheel, beside the package in a checkout."""
    package = Path(optinc.__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def check_settings(cfg: DictConfig, schema: type, *, only: Collection[str] | None = None) -> None:
    """Refuse settings that nothing reads.

    Args:
        cfg: The composed configuration.
        schema: Dataclass of the legal keys.
        only: Names of the settings that are checked, None for all.

    Raises:
        ConfigurationError: Names every unknown setting and the nearest legal one.
    """
    unknown = [
        (name, legal)
        for name, legal in unknown_settings(cfg, schema)
        if only is None or name in only
    ]
    if unknown:
        raise ConfigurationError(
            "; ".join(f"unknown setting {name}{_hint(name, legal)}" for name, legal in unknown)
        )


def unknown_settings(cfg: DictConfig, schema: type) -> list[tuple[str, list[str]]]:
    """Return the settings that nothing reads, each with the legal names beside it.

    A setting is legal where the schema has it, the class of its node takes it, the shipped option
    of its group holds it, or another value refers to it.
    """
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    referred = set(re.findall(r"\$\{([A-Za-z_][\w.]*)", str(content)))
    return [
        (name, legal)
        for name, legal in _unknown(cfg, content, schema, path="")
        if not any(f"{each}.".startswith(f"{name}.") for each in referred)
    ]


def _unknown(
    cfg: DictConfig, node: dict[Any, Any], schema: type | None, path: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield unknown settings below a node, see :func:`unknown_settings`."""
    below = f"{path}." if path else ""
    legal = _legal(cfg, node, schema, path)
    hints = get_type_hints(schema) if schema is not None else {}
    for key, value in node.items():
        name = f"{below}{key}"
        if legal is not None and key not in legal:
            yield name, [f"{below}{each}" for each in sorted(legal - HYDRA_KEYS)]
        elif path in NAMED_FREELY and value is not None and "_target_" not in _keys(value):
            yield name, [f"{path}.{each}" for each in _shipped_keys(cfg, path)]
        elif isinstance(value, dict) and name not in FREE:
            hint = hints.get(key)
            typed = hint if isinstance(hint, type) and is_dataclass(hint) else None
            # A dictionary that a class takes as an argument holds data.
            if "_target_" not in node or "_target_" in value:
                yield from _unknown(cfg, value, typed, name)


def _legal(
    cfg: DictConfig, node: dict[Any, Any], schema: type | None, path: str
) -> set[str] | None:
    """Return the legal keys of a node; None where all are."""
    if schema is not None:
        return {field.name for field in fields(schema)}
    if "_target_" in node:
        target = OmegaConf.select(cfg, f"{path}._target_")
        try:
            arguments = _arguments(str(target))
        except Exception as error:
            # Importing a user's module may raise anything.
            raise ConfigurationError(
                f"{path}._target_={target} is not found: {str(error).splitlines()[0].rstrip(':')}"
            ) from error
        return None if arguments is None else arguments | HYDRA_KEYS
    if path in NAMED_FREELY:
        return None
    return _shipped_keys(cfg, path)


@cache
def _arguments(target: str) -> set[str] | None:
    """Return the names of the arguments of a class or function; None where any is taken."""
    names: set[str] = set()
    for each in (target, *FURTHER.get(target, ())):
        parameters = inspect.signature(hydra.utils.get_object(each)).parameters.values()
        names |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        if any(one.kind is one.VAR_KEYWORD for one in parameters) and target not in FURTHER:
            return None
    return names - {"self", "args"}


def _shipped_keys(cfg: DictConfig, path: str) -> set[str]:
    """Return the keys of a group's option as shipped, of all where the user chose one of his own.

    Empty if there is no such group.
    """
    group = path.replace(".", "/")
    folder = conf_dir() / group
    own = folder / f"{cfg.choices.get(group)}.yaml"
    options = [own] if own.is_file() else sorted(folder.glob("*.yaml"))
    return {key for option in options for key in _keys_of_file(option)}


@cache
def _keys_of_file(option: Path) -> frozenset[str]:
    """Return the keys of an option and of the options of the same folder that it builds on."""
    content = OmegaConf.to_container(OmegaConf.load(option), resolve=False)
    assert isinstance(content, dict)
    keys = {str(key) for key in content if key != "defaults"}
    for default in content.get("defaults", []):
        if isinstance(default, str):
            if default != "_self_":
                keys |= _keys_of_file(option.with_name(f"{default}.yaml"))
        else:
            names = [str(key) for key in default]
            keys |= {name for name in names if not name.startswith("override")}
    return frozenset(keys)


def _keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def _hint(name: str, legal: list[str]) -> str:
    """Return the nearest legal name as a question, or all legal ones if there are few."""
    key = name.rpartition(".")[2]
    nearest = difflib.get_close_matches(key, [each.rpartition(".")[2] for each in legal], n=1)
    if nearest:
        return f"; did you mean {next(each for each in legal if each.endswith(nearest[0]))}?"
    return f"; legal are {', '.join(legal)}" if legal else ""
