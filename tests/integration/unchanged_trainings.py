"""Trains for some steps through every reducer, and writes the hash of the weights of each.

python -m tests.integration.unchanged_trainings virtual FILE [--quick]
torchrun --nproc-per-node 2 -m tests.integration.unchanged_trainings ddp FILE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from optinc.tasks.main import run
from tests.hydra_jobs import composed

STEPS = 12
"""Two more than PowerSGD takes before it compresses."""

FEW_STEPS = {"llama_tiny-onn_noise": 4}
"""Trainings of which a step takes seconds."""

MODELS: dict[str, list[str]] = {
    "llama_tiny": ["model=llama_tiny"],
    "resnet18": ["model=resnet18", "data=digits", "data.batch_size=32"],
}

REDUCERS: dict[str, list[str]] = {
    "optinc_8": ["reducer=optinc"],
    "optinc_16": ["reducer=optinc", "optinc.bits=16", "optinc/fidelity=ideal"],
    "ring": ["reducer=ring"],
    "powersgd": ["reducer=powersgd"],
    "qsgd": ["reducer=qsgd"],
}

SWITCHES: dict[str, list[str]] = {
    "cascade_16": ["optinc.servers=16", "optinc/topology=cascade"],
    "cascade_16_every_level": [
        "optinc.servers=16",
        "optinc/topology=cascade",
        "optinc.topology.quantize=every_level",
    ],
    "onn_noise": ["optinc/fidelity=onn", "optinc.fidelity.noise=0.01"],
    "error_injection": [
        "optinc.bits=16",
        "optinc/fidelity=error_injection",
        "optinc/errors=table2_3_4_5_6",
    ],
}
"""Ways to play the switch, in trainings of LLaMA; those of 16 servers with virtual ones only."""

COMMON = [
    "trainer.max_epochs=-1",
    "trainer.val_check_interval=${trainer.max_steps}",
    "trainer.check_val_every_n_epoch=null",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "callbacks=no_checkpoint",
]
DDP = ["strategy=ddp", "trainer.devices=2"]


def cases(mode: str) -> dict[str, list[str]]:
    """Return the command-line arguments of every training by its name."""
    trainings = {
        f"{model}-{reducer}": [*settings, *REDUCERS[reducer]]
        for model, settings in MODELS.items()
        for reducer in REDUCERS
    }
    for name, settings in SWITCHES.items():
        if mode == "virtual" or "optinc.servers=16" not in settings:
            trainings[f"llama_tiny-{name}"] = [*MODELS["llama_tiny"], *settings]
    # Two processes on a switch of four inputs: the others are dark.
    return {
        name: [
            *settings,
            *COMMON,
            f"trainer.max_steps={steps_of(name)}",
            *(DDP * (mode == "ddp")),
        ]
        for name, settings in trainings.items()
    }


def steps_of(name: str) -> int:
    """Return the number of steps of a training."""
    return FEW_STEPS.get(name, STEPS)


def quick_cases() -> set[str]:
    """Names of the trainings of every run of the tests: of ResNet18 those that its shapes concern.

    A reducer that takes a gradient as one long row is held to its weights by LLaMA.
    """
    rows = {f"resnet18-{reducer}" for reducer in ("optinc_16", "ring", "qsgd")}
    return set(cases("virtual")) - rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["virtual", "ddp"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    # One thread each: sums over threads would be taken in another order.
    torch.set_num_threads(1)
    hashes = {}
    for name, settings in cases(arguments.mode).items():
        if arguments.quick and name not in quick_cases():
            continue
        with TemporaryDirectory() as folder:
            summary, _ = run(composed(Path(folder), *settings))
        assert summary["steps"] == steps_of(name), (name, summary["steps"])
        hashes[f"{arguments.mode}-{name}"] = summary["weights_sha256"]
    if arguments.mode == "virtual" or dist.get_rank() == 0:
        arguments.file.write_text(json.dumps(hashes))
    if arguments.mode == "ddp":
        # Lightning leaves a gloo group open, and on a loaded machine the interpreter may end before
        # its threads do, which aborts the process.
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
