"""Composes the configuration and runs jobs in this process, as ``run.py`` would."""

from __future__ import annotations

import copy
import json
import logging
import signal
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from optinc.tasks.main import CONF, main, run

TINY = [
    "model=llama_tiny",
    "model.layers=1",
    "model.hidden_size=16",
    "model.heads=2",
    "model.intermediate_size=32",
    "data.sequence_length=16",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
]
"""A language model that trains for some steps within a second."""

CONSTANT_RATE = "model.scheduler._target_=tests.hydra_jobs.constant_rate"
"""A schedule that is the same in a short training and in a long one."""


def constant_rate(optimizer: Optimizer, *, total_steps: int, warmup_fraction: float) -> LambdaLR:
    """Leave the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def composed(folder: Path, *overrides: str) -> DictConfig:
    """Compose the configuration of a job whose output folder is ``folder``."""
    cfg = copy.deepcopy(_composition(overrides))
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


@cache
def _composition(overrides: tuple[str, ...]) -> DictConfig:
    """Compose with Hydra's own node, once for all tests of a process: it takes 0.3 seconds."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def job(folder: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a job, and return ``summary.json`` as written and the objects it built."""
    _, objects = run(composed(folder, *overrides))
    return json.loads((folder / "summary.json").read_text()), objects


def command(*arguments: str, started: str = "run.py") -> int:
    """Run ``python run.py`` with these arguments in this process; return its exit status.

    ``started`` names another file that was started, such as the installed ``optinc``.

    What it writes is captured by pytest. Signals, servers that are processes and the end of the
    interpreter are left to :mod:`tests.processes`.
    """
    root = logging.getLogger()
    handlers, level, sigterm = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings(), patch.object(sys, "argv", [started, *arguments]):
            # As the entry point does when it is imported; pytest has filters of its own.
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            main()
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        # Hydra's handlers write to what pytest captures now, and closes.
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        signal.signal(signal.SIGTERM, sigterm)
    return 0


def stored_job(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run a job, leave its settings where Hydra does, and return ``summary.json``."""
    summary, _ = job(folder, *overrides)
    store(composed(folder, *overrides), folder)
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
    return summary


def store(cfg: DictConfig, folder: Path) -> None:
    """Leave a configuration where Hydra does."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    choices = {"hydra": {"runtime": {"choices": dict(cfg.choices)}}}
    OmegaConf.save(choices, folder / ".hydra" / "hydra.yaml")


def seconds_later(path: Path, seconds: float) -> None:
    """Let the training of a checkpoint have taken longer."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["callbacks"]["TrainingTime"]["seconds"] += seconds
    torch.save(checkpoint, path)
