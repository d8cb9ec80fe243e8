"""Trains by two processes of Lightning's own DDP or by two virtual servers, for comparison.

    torchrun --nproc-per-node 2 -m tests.integration.two_servers FILE

Virtual servers train by :func:`results` in the process of the test. Writes the final weights and
buffers of every case to FILE.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

import safetensors.torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy
from tests.integration import odd_models
from tests.integration.servers import Model, one_server, train

SERVERS = 2

CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd_clip": {"sgd": True, "trainer": {"gradient_clip_val": 0.3}},
    "clip_by_value": {
        "sgd": True,
        "trainer": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    },
    "accumulate": {"trainer": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.3}},
    "bf16": {"trainer": {"precision": "bf16-mixed"}},
    "state": {"build": odd_models.Stateful},
    "state_accumulated": {
        "build": odd_models.Stateful,
        "trainer": {"accumulate_grad_batches": 3},
    },
    "skipped_steps": {"build": odd_models.Skipping},
    "never_zeroed": {"build": odd_models.Accumulating},
    "frozen": {"build": odd_models.Frozen},
    "ranks": {"build": odd_models.Logging},
}
"""What is trained: the optimiser or a class of its own, and settings of the trainer."""

if find_spec("peft"):
    CASES["lora"] = {"build": odd_models.LowRank}


def trained(mode: str, case: dict[str, Any]) -> dict[str, Tensor]:
    """Train one case by real or by virtual servers."""
    if mode == "ddp":
        strategy: Any = DDPStrategy(process_group_backend="gloo")
    else:
        strategy = VirtualServersStrategy(RingReducer(servers=SERVERS))
    return train(
        strategy,
        servers=SERVERS,
        real=mode == "ddp",
        model={} if "build" in case else {"sgd": case.get("sgd", False), "schedule": True},
        trainer=case.get("trainer", {}),
        build=case.get("build", Model),
    )


def results(mode: str) -> dict[str, Tensor]:
    """Train all cases; return their final weights and buffers by case and name."""
    return {
        f"{name}.{key}": value
        for name, case in CASES.items()
        for key, value in trained(mode, case).items()
    }


def main() -> None:
    with one_server():
        found = results("ddp")
        if os.environ["RANK"] == "0":
            safetensors.torch.save_file(found, sys.argv[1])


if __name__ == "__main__":
    main()
