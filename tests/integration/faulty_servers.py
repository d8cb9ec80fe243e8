"""Trains a small model with two real servers, something of which goes wrong.

    python -m tests.integration.faulty_servers FAULT:FOLDER[:CHECKPOINT] ... [--steps 8]

Writes checkpoints to FOLDER, and the final weights to FOLDER/weights-RANK or the error that ended
the training to FOLDER/error-RANK. Several trainings, for which torchrun starts the servers, follow
one another; the status is 2 where the last one ended in an error.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import Dataset

from optinc.data.base import BatchKey, BatchKeys, ResumableLoader
from optinc.errors import OptINCError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.switches.single import TableSwitch
from tests.integration.servers import one_server

FAULT_STEP = 5
TIMEOUT_SECONDS = 15.0
"""Busy machines, and disks, delay a server by some seconds."""


class Model(pl.LightningModule):
    """Fails at :data:`FAULT_STEP` as told.

    Args:
        fault: Called at every training step with the loss; may return another, or not at all.
        swapped: Define the two layers in the other order.
    """

    def __init__(self, fault: Callable[[Model, Tensor], Tensor], *, swapped: bool) -> None:
        super().__init__()
        self.fault = fault
        layers = {"first": nn.Linear(20, 20), "second": nn.Linear(20, 20)}
        for name in sorted(layers, reverse=swapped):
            self.add_module(name, layers[name])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.first(batch).relu() + self.second(batch)).square().mean()
        return self.fault(self, loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def kill(model: Model, loss: Tensor) -> Tensor:
    if model.global_step == FAULT_STEP:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


def hang(model: Model, loss: Tensor) -> Tensor:
    if model.global_step == FAULT_STEP:
        time.sleep(600)
    return loss


def poison(model: Model, loss: Tensor) -> Tensor:
    """NaN in one gradient value of this server: that of the last bias."""
    if model.global_step == FAULT_STEP:
        return loss + model.second.bias[7] * float("nan")
    return loss


def poison_always(model: Model, loss: Tensor) -> Tensor:
    return loss * float("nan") if model.global_step >= FAULT_STEP else loss


def wait(model: Model, loss: Tensor) -> Tensor:
    """Take long enough to be interrupted."""
    time.sleep(0.1)
    return loss


def nothing(model: Model, loss: Tensor) -> Tensor:
    return loss


FAULTS: dict[str, tuple[int | None, Callable[[Model, Tensor], Tensor]]] = {
    "none": (None, nothing),
    "kill_0": (0, kill),
    "kill_1": (1, kill),
    "hang_0": (0, hang),
    "hang_1": (1, hang),
    "nan_raise": (1, poison),
    "nan_skip_step": (1, poison),
    "nan_propagate": (1, poison),
    "nan_always": (1, poison_always),
    "wait": (None, wait),
    "other_blocks": (None, nothing),
    "other_weights": (None, nothing),
    "other_order": (None, nothing),
    "full_disk": (None, nothing),
}
"""Name: the rank that fails (None for all), and how."""


def make_reducer(fault: str, rank: int) -> Reducer:
    policy = {"nan_skip_step": "skip_step", "nan_always": "skip_step"}.get(fault, "raise")
    policy = "propagate" if fault == "nan_propagate" else policy
    size = 128 if (fault, rank) == ("other_blocks", 1) else 256
    name = "dense" if (fault, rank) == ("other_weights", 1) else "all_layers"
    onn = ONNArtifact.load(zoo.ZOO / f"b8_n4_half_even_{name}")
    quantizer = BlockQuantizer(bits=8, block_size=size, nonfinite=policy)  # type: ignore[arg-type]
    return OptINCReducer(quantizer=quantizer, switch=TableSwitch(onn))


class Samples(Dataset[Tensor]):
    """Random samples."""

    def __init__(self) -> None:
        self.samples = torch.randn(4000, 20, generator=torch.Generator().manual_seed(1))

    def __getitem__(self, key: BatchKey) -> Tensor:  # type: ignore[override]
        return self.samples[key.positions]


class FullDisk(pl.Callback):
    """Leaves no room on the disk after some steps."""

    def on_train_batch_start(self, *args: Any) -> None:
        if args[1].global_step == FAULT_STEP:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


def train(fault: str, folder: Path, steps: int, resume: Path | None) -> None:
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    where, action = FAULTS[fault]
    pl.seed_everything(3, verbose=False)
    model = Model(
        action if where in (None, rank) else nothing, swapped=(fault, rank) == ("other_order", 1)
    )
    checkpoints = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=OptINCDDPStrategy(
            make_reducer(fault, rank), timeout_seconds=TIMEOUT_SECONDS, most_skipped_steps=3
        ),
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[checkpoints, *([FullDisk()] if fault == "full_disk" else [])],
    )
    keys = BatchKeys(
        size=4000, batch_size=8, shuffle=True, seed=1, rank=trainer.global_rank, world_size=2
    )
    trainer.fit(model, ResumableLoader(Samples(), keys), ckpt_path=resume)
    safetensors.torch.save_file(dict(model.state_dict()), folder / f"weights-{rank}")


def run(training: str, steps: int) -> int:
    """Train as an argument says; return the exit status."""
    fault, name, *resume = training.split(":")
    folder, rank = Path(name), os.environ.get("LOCAL_RANK", "0")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        train(fault, folder, steps, Path(resume[0]) if resume else None)
    except OptINCError as error:
        message = f"{type(error).__name__}: {error}"
        print(f"error: {message}", file=sys.stderr)
        (folder / f"error-{rank}").write_text(message)
        return 2
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trainings", nargs="+")
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    with one_server():
        status = [run(training, arguments.steps) for training in arguments.trainings][-1]
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    main()
