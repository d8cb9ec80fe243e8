"""The configuration that Hydra stores in the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from optinc.commands import run_command
from optinc.errors import ConfigurationError
from optinc.runs.run_record import add_to_record, read_record

FOLDER = ".hydra"
"""Where Hydra keeps the configuration, inside a run's folder."""


@dataclass(frozen=True)
class StoredConfiguration:
    """The configuration of a run.

    Attributes:
        config: Composed values; interpolations are resolved in the process that reads them.
        choices: Option of every group.
    """

    config: DictConfig
    choices: dict[str, str | None]


def read_configuration(folder: Path) -> StoredConfiguration | None:
    """Read the configuration of a run; None if Hydra stored none.

    Raises:
        ConfigurationError: If it cannot be read; names the file and the reason.
    """
    paths = [folder / FOLDER / name for name in ("config.yaml", "hydra.yaml")]
    if not all(path.is_file() for path in paths):
        return None
    try:
        config, hydra = map(OmegaConf.load, paths)
    except Exception as error:
        # Errors of YAML, of OmegaConf and of the system have no class in common.
        why = " ".join(str(error).split())
        raise ConfigurationError(f"{folder / FOLDER} cannot be read: {why}") from error
    choices = OmegaConf.select(hydra, "hydra.runtime.choices")
    if not isinstance(config, DictConfig) or not isinstance(choices, DictConfig):
        raise ConfigurationError(f"{folder / FOLDER} holds no configuration of a run")
    return StoredConfiguration(config, {str(key): value for key, value in choices.items()})


def remember_overrides(folder: Path | str) -> None:
    """Keep the overrides of this command line with a run that begins now.

    Hydra's own list is that of the last start, also of one that was refused.

    Raises:
        OSError: If they cannot be written.
    """
    if HydraConfig.initialized():
        add_to_record(folder, overrides=list(HydraConfig.get().overrides.task))


def stored_overrides(folder: Path) -> list[str]:
    """Return the overrides of the command line that a run began with, none if there is no run.

    Raises:
        ConfigurationError: If they cannot be read; names the file and the reason.
    """
    kept = read_record(folder).get("overrides")
    path = folder / FOLDER / "overrides.yaml"
    if kept is None and path.is_file():
        try:
            kept = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        except Exception as error:
            # As above.
            why = " ".join(str(error).split())
            raise ConfigurationError(f"{path} cannot be read: {why}") from error
    if kept is not None and not isinstance(kept, list):
        raise ConfigurationError(f"{path} holds no list of overrides")
    return [str(each) for each in kept or []]


def configuration_of_checkpoint(cfg: DictConfig) -> DictConfig:
    """Return the configuration of the training that wrote ``ckpt_path``, with new overrides.

    Values named on the present command line, the task, the loggers and the output folder come from
    ``cfg``; all others from the training.

    Args:
        cfg: The configuration of the present command.

    Raises:
        ConfigurationError: If ``ckpt_path`` is null or was written by another task, if no stored
            configuration is found, or if an override cannot be applied to it.
    """
    if cfg.ckpt_path is None:
        raise ConfigurationError(
            "ckpt_path must name the checkpoint to evaluate, for example "
            "ckpt_path=runs/DATE/TIME/checkpoints/last.ckpt"
        )
    folders = Path(cfg.ckpt_path).resolve().parents[:2]
    found = [stored for stored in map(read_configuration, folders) if stored is not None]
    if not found:
        raise ConfigurationError(
            f"ckpt_path={cfg.ckpt_path}: the configuration of its run was looked for in "
            f"{' and '.join(str(folder / FOLDER) for folder in folders)}; a checkpoint must stay "
            f"in RUN/checkpoints, beside RUN/{FOLDER}"
        )
    run, choices = found[0].config, dict(found[0].choices)
    if choices.get("task") != "train":
        raise ConfigurationError(
            f"ckpt_path={cfg.ckpt_path} was written by task={choices.get('task')}, and "
            "task=evaluate takes checkpoints of task=train; task=evaluate_onn evaluates an ONN"
        )
    _lay_over(run, cfg, choices)
    mine = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(mine, dict)
    with open_dict(run):
        for key in ("task", "logger", "ckpt_path"):
            run[key] = mine[key]
        run.paths.output_dir = mine["paths"]["output_dir"]
        run.choices = choices | {"task": cfg.choices.task, "logger": cfg.choices.get("logger")}
    return run


def overridden() -> list[str]:
    """Return the dotted names of what the present command line sets."""
    parser = OverridesParser.create()
    return [
        parser.parse_override(text).key_or_group.replace("/", ".")
        for text in HydraConfig.get().overrides.task
    ]


def _lay_over(run: DictConfig, cfg: DictConfig, choices: dict[str, str | None]) -> None:
    """Copy settings that the command line names from ``cfg`` into the run's configuration."""
    values, mine = OmegaConf.to_container(cfg, resolve=False), dict(cfg.choices)
    if not HydraConfig.initialized():
        raise ConfigurationError(
            "task=evaluate lays the settings of a command line over those of the run, and needs "
            f"one: {run_command(['task=evaluate', 'ckpt_path=...'])}"
        )
    parser = OverridesParser.create()
    for text in HydraConfig.get().overrides.task:
        name = parser.parse_override(text).key_or_group
        *above, last = keys = name.replace("/", ".").split(".")
        parent = values
        for key in above:
            parent = parent.get(key) if isinstance(parent, dict) else None
        if name in mine:
            choices[name] = mine[name]
        if isinstance(parent, dict) and last in parent:
            OmegaConf.update(run, ".".join(keys), parent[last], merge=False, force_add=True)
        elif name not in mine or mine[name] is not None:
            raise ConfigurationError(
                f"{text} cannot be laid over the configuration of the run that wrote ckpt_path: "
                "only values and groups that stand at one place can (such as data=digits or "
                "trainer.limit_val_batches=2), not experiment, arm or debug"
            )
