"""The accelerator of a run, and the processes that torchrun has started for it."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from optinc.commands import program
from optinc.errors import ConfigurationError

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


class Processes(NamedTuple):
    """Processes that share a training.

    Attributes:
        devices: Processes on each machine.
        nodes: Machines.
    """

    devices: int
    nodes: int


def check_accelerator(name: str) -> None:
    """Refuse an accelerator that does not exist, or that this machine lacks.

    Raises:
        ConfigurationError: Names the legal values.
    """
    if name not in ACCELERATORS:
        raise ConfigurationError(
            f"trainer.accelerator must be {' | '.join(ACCELERATORS)}, got {name}"
        )
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(name, True):
        return
    raise ConfigurationError(
        f"trainer.accelerator={name}, but this machine has none that torch can use; "
        "trainer.accelerator=auto chooses one that it has"
    )


def started_by_torchrun() -> Processes | None:
    """Return the processes that torchrun has started, this one among them; None without torchrun.

    Raises:
        ConfigurationError: If the machines have different numbers of them.
    """
    if not {"WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"} <= os.environ.keys():
        return None
    world, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if world % here:
        raise ConfigurationError(
            f"torchrun has started {here} of {world} processes on this machine; every machine must "
            "have as many (--nproc-per-node)"
        )
    return Processes(here, world // here)


def infer_processes(trainer: DictConfig) -> None:
    """Set ``trainer.devices`` and ``num_nodes`` to what torchrun has started, where they are 1.

    Args:
        trainer: The configuration of the trainer of ``strategy=ddp``; changed in place.

    Raises:
        ConfigurationError: If they have been set to something else.
    """
    started = started_by_torchrun()
    if started is None:
        return
    for name, value in (("devices", started.devices), ("num_nodes", started.nodes)):
        if trainer[name] not in (1, "auto", value):
            raise ConfigurationError(
                f"trainer.{name}={trainer[name]}, but torchrun has started {started.devices} "
                f"processes on each of {started.nodes} machines; leave trainer.devices and "
                "trainer.num_nodes out, or set them to these numbers"
            )
        trainer[name] = value


def refuse_several_processes() -> None:
    """Refuse a training by virtual servers in several processes: each would train all of it.

    Raises:
        ConfigurationError: Names the strategy that makes every server a process.
    """
    started = started_by_torchrun()
    if started is not None and started.devices * started.nodes > 1:
        raise ConfigurationError(
            f"torchrun has started {started.devices * started.nodes} processes, and with "
            "strategy=virtual_servers each would train the whole run; set strategy=ddp, or start "
            f"{program()} without torchrun"
        )
