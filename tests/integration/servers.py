"""A small training of images, and what every process that is one of several servers does.

Used by the scripts that compare real servers with virtual ones. All of them start with
:func:`one_server`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

BATCH = 4
"""Rows of every server's batch."""

STEPS = 12
"""Batches of an epoch."""


@contextmanager
def one_server() -> Iterator[None]:
    """Compute on one thread, and leave the process group where all went well."""
    # Sums over several threads would be taken in another order.
    torch.set_num_threads(1)
    yield
    if dist.is_initialized():
        # Lightning leaves a gloo group open, and on a loaded machine the interpreter may end before
        # its threads do, which aborts the process.
        dist.destroy_process_group()


class Images(Dataset[dict[str, Any]]):
    """Random images with labels that can be learnt, and names that no device takes."""

    def __init__(self, rows: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(rows, 3, 8, 8, generator=generator)
        self.labels = (self.images.mean((1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": self.labels[index], "name": f"{index}.png"}


class Model(pl.LightningModule):
    """Convolution, BatchNorm, dropout, parameters of size 0 and 1, and some never used.

    Args:
        sgd: Train with SGD and momentum instead of AdamW.
        schedule: Lower the learning rate every three steps.
        unused: Have a layer that is never called.
    """

    def __init__(self, *, sgd: bool = False, schedule: bool = False, unused: bool = False) -> None:
        super().__init__()
        self.sgd, self.schedule = sgd, schedule
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(288, 50),
            nn.Linear(50, 2),
        )
        self.scale = nn.Parameter(torch.ones(()))
        self.nothing = nn.Parameter(torch.ones(0))
        if unused:
            self.unused = nn.Linear(20, 20)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        logits = self.network(batch["image"]) * self.scale + self.nothing.sum()
        loss = nn.functional.cross_entropy(logits, batch["label"])
        self.log("train_loss", loss)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        if self.sgd:
            optimizer: Any = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        else:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        if not self.schedule:
            return optimizer
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.7)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def train(
    strategy: Strategy,
    *,
    servers: int,
    real: bool,
    model: dict[str, Any],
    trainer: dict[str, Any],
    build: Callable[..., pl.LightningModule] = Model,
) -> dict[str, Tensor]:
    """Train for an epoch; return the final weights and buffers.

    Args:
        strategy: The one of real or of virtual servers.
        servers: Their number.
        real: Whether each is a process.
        model: Settings of the module.
        trainer: Further settings of Lightning's trainer.
        build: Class of the module.
    """
    pl.seed_everything(7, verbose=False)
    dataset = Images(BATCH * STEPS * servers)
    fitting = pl.Trainer(
        accelerator="cpu",
        devices=servers if real else 1,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **trainer,
    )
    if real:
        rank = fitting.global_rank
        sampler = DistributedSampler(dataset, num_replicas=servers, rank=rank, shuffle=False)
        loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler)
    else:
        loader = DataLoader(dataset, batch_size=BATCH * servers)
    module = build(**model)
    fitting.fit(module, loader)
    steps = STEPS // trainer.get("accumulate_grad_batches", 1)
    assert fitting.global_step == steps, fitting.global_step
    # The next training may go on with the same process group, not with the same tensors.
    return {name: value.clone() for name, value in module.state_dict().items()}
