"""Reductions and a training over a process group of one rank: NCCL on a GPU, gloo without one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.reducers import network, noisy_chip, scenario, table
from experiments.common.runs import run
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch

VALUES = 10_007

ERRORS = ErrorDistribution(rate=0.01, values={1: 0.5, -4: 0.5})

TRAINING = (
    *("model=llama_tiny", "data=pydocs", "model.layers=1", "model.hidden_size=16"),
    *("model.heads=2", "model.intermediate_size=32", "data.sequence_length=16"),
    *("trainer.max_steps=3", "trainer.limit_val_batches=1", "callbacks=no_checkpoint"),
    *("trainer.deterministic=true", "trainer.enable_progress_bar=false"),
    *("trainer.enable_model_summary=false", "optinc.servers=4"),
)
"""A language model whose gradients one server reduces, the other three inputs being dark."""


def reducers(folder: Path) -> dict[str, Callable[[], Reducer]]:
    """Return reducers of one server; of OptINC on a switch of four."""
    eight, sixteen = scenario(bits=8, fan_in=4), scenario(bits=16, fan_in=4)
    switches: dict[str, Callable[[], OpticalSwitch]] = {
        "ideal, 8 bits": partial(IdealSwitch, eight),
        "ideal, 16 bits": partial(IdealSwitch, sixteen),
        "table": partial(table, eight, cache=str(folder)),
        "table, 10 % of entries wrong": partial(table, eight, cache=str(folder), wrong_every=10),
        "onn": partial(network, eight),
        "chip": partial(noisy_chip, eight),
        "error_injection": partial(ErrorInjectionSwitch, eight, errors=ERRORS),
    }

    def optinc(make: Callable[[], OpticalSwitch]) -> Reducer:
        switch = make()
        quantizer = BlockQuantizer(bits=switch.scenario.bits)
        return OptINCReducer(quantizer=quantizer, switch=switch, servers=1)

    return {
        **{f"optinc, {name}": partial(optinc, make) for name, make in switches.items()},
        "ring": partial(RingReducer, servers=1),
        "fp16": partial(HalfPrecisionReducer, servers=1, format="fp16"),
        "bf16": partial(HalfPrecisionReducer, servers=1, format="bf16"),
        "int8_blocks": lambda: Int8BlocksReducer(servers=1, quantizer=BlockQuantizer(bits=8)),
    }


def reductions(folder: Path, device: torch.device) -> Iterator[tuple[str, bool]]:
    """Reduce over a group of one rank on a device, and as a virtual server on the CPU.

    Args:
        folder: Folder of temporary files.
        device: Device of the gradients.

    Yields:
        Name of the comparison, and whether the results are equal bit for bit.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.FileStore(str(folder / "store"), 1)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        generator = torch.Generator().manual_seed(0)
        gradient = torch.randn(VALUES, generator=generator)
        for name, make in reducers(folder).items():
            expected = make()(gradient[None].clone())
            there = make().to(device)
            received = there.all_reduce(gradient.to(device, copy=True), ServerGroup.world())
            yield f"{backend} with one rank, {name}", torch.equal(received.cpu(), expected)
    finally:
        dist.destroy_process_group()


def trainings(folder: Path) -> Iterator[tuple[str, bool]]:
    """Train with ``strategy=ddp`` and one process, and with one virtual server.

    Args:
        folder: Folder of the runs.

    Yields:
        Name of the comparison, and whether the weights are equal bit for bit.
    """
    # Without it cuBLAS may add in another order from call to call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    ddp = run(folder / "ddp", *TRAINING, "strategy=ddp", "trainer.devices=1")
    virtual = run(folder / "virtual", *TRAINING, "reducer.servers=1")
    equal = ddp["weights_sha256"] == virtual["weights_sha256"]
    yield "strategy=ddp with one process, weights of one virtual server", equal
