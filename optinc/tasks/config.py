"""Checks of the configuration, made before anything is built."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from optinc.errors import ConfigurationError
from optinc.onn.chip.direct import PLAYED
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.runs.differing_settings import training_settings
from optinc.tasks.instantiate import instantiate
from optinc.tasks.legal_values import check_seed, check_trainer
from optinc.tasks.machine import check_accelerator, infer_processes, refuse_several_processes
from optinc.tasks.prepared import refuse_words_for_groups
from optinc.tasks.schema import Config
from optinc.tasks.unknown_settings import check_settings


def validate(cfg: DictConfig) -> None:
    """Refuse illegal settings before anything is built.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    refuse_words_for_groups(cfg)
    # First: classes that the scale names are looked up below.
    scales = list(cfg.scales or {})
    if cfg.scale is not None and cfg.scale not in scales:
        legal = " | ".join(scales) or "null, since no experiment with scales is chosen"
        raise ConfigurationError(f"scale must be {legal}, got {cfg.scale}")
    if cfg.choices.task != "evaluate":
        # Its command line is laid over the settings of a run, which name other classes.
        check_settings(cfg, Config)
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} must be given, for example {missing[0]}=VALUE"
        )
    instantiate(cfg.optinc.scenario)
    instantiate(cfg.optinc.chip)
    if cfg.ckpt_path is not None and not Path(cfg.ckpt_path).is_file():
        raise ConfigurationError(f"ckpt_path={cfg.ckpt_path} is not a file")
    check_seed(cfg.seed)


def validate_training(cfg: DictConfig) -> None:
    """Refuse illegal combinations of settings for ``task=train``.

    Raises:
        ConfigurationError: Names the settings and the legal values.
    """
    if cfg.optinc.topology.get("level") is not None:
        raise ConfigurationError(
            f"optinc.topology.level={cfg.optinc.topology.level} chooses the ONN of task=train_onn, "
            "construct_onn, import_onn and evaluate_onn; it must be null for task=train"
        )
    _check_chip_is_played(cfg)
    _check_switch_reads(cfg)
    _check_senders(cfg)
    check_accelerator(cfg.trainer.accelerator)
    check_trainer(cfg.trainer)
    check_accelerator(cfg.trainer.accelerator)
    servers, batch_size = _servers(cfg), cfg.data.batch_size
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(
            f"data.batch_size must be an integer of at least 1, got {batch_size}"
        )
    if batch_size < servers:
        raise ConfigurationError(
            f"data.batch_size={batch_size} must be at least the number of servers, {servers}: "
            "every server needs a sample"
        )


def _check_chip_is_played(cfg: DictConfig) -> None:
    """Refuse errors of a chip that the switch would not play.

    Raises:
        ConfigurationError: Names the setting and the fidelity that plays it.
    """
    read = training_settings(cfg)
    switched = any(name.startswith("optinc.fidelity.") for name in read)
    if not switched or any(name.startswith("optinc.chip.") for name in read):
        return
    chip, ideal = instantiate(cfg.optinc.chip), ChipSettings()
    for each in numbers():
        value = getattr(chip, each.name)
        if value != getattr(ideal, each.name):
            players = "chip and direct" if each.name in PLAYED else "chip alone"
            raise ConfigurationError(
                f"optinc.chip.{each.name}={value} is played by optinc/fidelity={players}, not by "
                f"optinc/fidelity={cfg.choices.get('optinc/fidelity')}; optinc/chip=ideal has no "
                "errors"
            )


def _check_switch_reads(cfg: DictConfig) -> None:
    """Refuse an ONN, or errors of an ONN, that the switch would not play.

    Raises:
        ConfigurationError: Names the setting and the fidelities that play it.
    """
    read, fidelity = training_settings(cfg), cfg.choices.get("optinc/fidelity")
    if not any(name.startswith("optinc.fidelity.") for name in read):
        return
    if cfg.onn is not None and "onn" not in read:
        raise ConfigurationError(
            f"onn={cfg.onn} is not read by optinc/fidelity={fidelity}; it is by optinc/fidelity="
            "table, onn and chip, and by error_injection with optinc/errors=measured"
        )
    errors = cfg.choices.get("optinc/errors")
    if errors != "measured" and not any(name.startswith("optinc.errors.") for name in read):
        raise ConfigurationError(
            f"optinc/errors={errors} is drawn by optinc/fidelity=error_injection alone, not by "
            f"optinc/fidelity={fidelity}"
        )


def _check_senders(cfg: DictConfig) -> None:
    """Refuse what servers would not do before they quantise, as the reducer is another.

    Raises:
        ConfigurationError: Names the setting and the reducers that read it.
    """
    read, quantization = training_settings(cfg), cfg.optinc.quantization
    off = {"error_feedback": False, "rotation": "none", "clip": None}
    for name, value in off.items():
        setting = f"optinc.quantization.{name}"
        if quantization[name] != value and setting not in read:
            raise ConfigurationError(
                f"{setting}={quantization[name]} is read by reducer=optinc and mixed_bits, not by "
                f"reducer={cfg.choices.reducer}"
            )
    for name, value in {"rounding": "stochastic", "scale_dtype": "bfloat16"}.items():
        setting = f"optinc.quantization.{name}"
        if quantization[name] == value and setting not in read:
            raise ConfigurationError(
                f"{setting}={value} is read by reducer=optinc, mixed_bits and int8_blocks, not by "
                f"reducer={cfg.choices.reducer}"
            )


def _servers(cfg: DictConfig) -> int:
    """Return the number of servers of the strategy, torchrun's where it has started them.

    Raises:
        ConfigurationError: If the strategy does not support the devices, or the sweep.
    """
    if cfg.choices.strategy != "ddp":
        refuse_several_processes()
        if cfg.trainer.devices != 1 or cfg.trainer.num_nodes != 1:
            raise ConfigurationError(
                "strategy=virtual_servers plays all servers on one device; trainer.devices and "
                f"trainer.num_nodes must be 1, got {cfg.trainer.devices} and "
                f"{cfg.trainer.num_nodes}; strategy=ddp makes every server a process"
            )
        return int(cfg.reducer.get("servers") or cfg.optinc.servers)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigurationError(
            "strategy=ddp cannot be swept with -m: every process it starts would run the whole "
            "sweep again; use strategy=virtual_servers, or start the runs one by one"
        )
    infer_processes(cfg.trainer)
    if not isinstance(cfg.trainer.devices, int) or cfg.trainer.devices < 1:
        raise ConfigurationError(
            f"strategy=ddp needs a number of processes: trainer.devices must be an integer of at "
            f"least 1, got {cfg.trainer.devices}"
        )
    return int(cfg.trainer.devices * cfg.trainer.num_nodes)
