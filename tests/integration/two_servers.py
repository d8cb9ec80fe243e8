"""Trains small models by two real DDP processes or by two virtual servers, for comparison.

    torchrun --nproc-per-node 2 two_servers.py ddp FILE
    python two_servers.py virtual FILE

Writes the final weights and buffers of every case to FILE.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy

SERVERS = 2
STEPS = 12
CASES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "trainer": {}},
    "sgd_clip": {"optimizer": "sgd", "trainer": {"gradient_clip_val": 0.3}},
    "clip_by_value": {
        "optimizer": "sgd",
        "trainer": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    },
    "accumulate": {
        "optimizer": "adamw",
        "trainer": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.3},
    },
    "bf16": {"optimizer": "adamw", "trainer": {"precision": "bf16-mixed"}},
}


class Images(Dataset[dict[str, Any]]):
    """Random images with labels that can be learnt."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(96, 3, 8, 8, generator=generator)
        self.labels = (self.images.mean((1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": self.labels[index], "name": f"{index}.png"}


class Model(pl.LightningModule):
    """Convolution, BatchNorm and dropout under a learning-rate schedule."""

    def __init__(self, optimizer: str) -> None:
        super().__init__()
        self.optimizer_name = optimizer
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(288, 2),
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(self.network(batch["image"]), batch["label"])
        self.log("train_loss", loss)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        if self.optimizer_name == "adamw":
            optimizer: Any = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        else:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.7)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def train(mode: str, case: dict[str, Any]) -> dict[str, Tensor]:
    """Train one case and return its final weights and buffers."""
    pl.seed_everything(7, verbose=False)
    dataset = Images()
    if mode == "ddp":
        strategy: Any = DDPStrategy(process_group_backend="gloo")
        rank = int(os.environ["RANK"])
        sampler = DistributedSampler(dataset, num_replicas=SERVERS, rank=rank, shuffle=False)
        loader = DataLoader(dataset, batch_size=4, sampler=sampler)
    else:
        strategy = VirtualServersStrategy(RingReducer(servers=SERVERS))
        loader = DataLoader(dataset, batch_size=4 * SERVERS)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=SERVERS if mode == "ddp" else 1,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **case["trainer"],
    )
    model = Model(case["optimizer"])
    trainer.fit(model, loader)
    steps = STEPS // case["trainer"].get("accumulate_grad_batches", 1)
    assert trainer.global_step == steps, trainer.global_step
    return model.state_dict()


def main() -> None:
    mode, file = sys.argv[1:]
    # One thread each: sums over threads would be taken in another order.
    torch.set_num_threads(1)
    results = {
        f"{name}.{key}": value.clone()
        for name, case in CASES.items()
        for key, value in train(mode, case).items()
    }
    if mode == "virtual" or not torch.distributed.get_rank():
        safetensors.torch.save_file(results, file)
    if mode == "ddp":
        # Lightning leaves a gloo group open, and on a loaded machine the interpreter may end before
        # its threads do, which aborts the process.
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
