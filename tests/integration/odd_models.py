"""Models whose training step does more than compute a loss, for the images of ``servers``."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Odd(pl.LightningModule):
    """What the models here share: a head, its loss, and SGD over what is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(288, 2))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.head(self.body(batch["image"])), batch["label"])

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=0.05, momentum=0.9)


class Meter:
    """An average that is no module."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0
        self.all: list[float] = []

    def update(self, value: float) -> None:
        self.sum, self.count = self.sum + value, self.count + 1
        self.all.append(value)


class Stateful(Odd):
    """Updates buffers, a teacher, counters and random states in its training step.

    What differs between the servers (losses that it remembers) reaches the gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.narrow = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Dropout(0.1))
        self.teacher = nn.Linear(288, 2).requires_grad_(False)
        self.slow = nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("outcome", torch.zeros(5, dtype=torch.float64))
        self.calls, self.recent, self.meter = 0, 0.0, Meter()
        self.losses: list[Tensor] = []
        self.memory: dict[str, Tensor] = {"mean": torch.zeros(2)}
        self.noise = torch.Generator().manual_seed(3)
        self.numbers = np.random.default_rng(5)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.calls += 1
        self.steps = self.steps + 1
        # As in MoCo's own code, which autograd does not notice.
        student = self.head[1]
        self.teacher.weight.data = self.teacher.weight.data * 0.9 + student.weight.data * 0.1
        with torch.no_grad():
            self.teacher.bias.mul_(0.9).add_(student.bias, alpha=0.1)

        mixed = np.random.beta(0.5, 0.5)  # noqa: NPY002
        image = batch["image"] * float(mixed) + random.random()  # noqa: S311
        image = image + torch.randn(3, 8, 8, generator=self.noise) * self.numbers.random()
        features = checkpoint(self.body, image, use_reentrant=False)
        features = checkpoint(self.wide, features, use_reentrant=True)
        features = checkpoint(self.narrow, features, use_reentrant=False).flatten(1)
        logits = student(features)
        taught = self.teacher(features)  # frozen, but gradients pass through
        with torch.no_grad():
            self.centre.mul_(0.5).add_(logits.mean(0), alpha=0.5)
            self.memory["mean"] = 0.5 * self.memory["mean"] + logits.detach().mean(0)
            self.slow.weight.add_(logits.mean())  # other values on every server
        loss = nn.functional.cross_entropy(logits - self.centre, batch["label"])
        loss = loss + (taught.softmax(1) - logits.softmax(1)).square().mean() / self.calls
        loss = loss + 0.01 * self.slow(logits).square().mean() + 0.1 * self.recent * logits.mean()
        loss = loss + 0.01 * (logits * self.memory["mean"]).mean()
        self.recent = 0.5 * self.recent + 0.5 * loss.item()
        self.meter.update(loss.item())
        self.losses.append(loss.detach())
        return loss

    def on_train_end(self) -> None:
        self.outcome[0] = self.calls
        self.outcome[1] = self.recent
        self.outcome[2] = self.meter.sum / self.meter.count
        self.outcome[3] = len(self.meter.all)
        self.outcome[4] = torch.stack(self.losses).mean()


class Skipping(Odd):
    """Leaves out every third step, as Lightning documents it."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        if batch_idx % 3 == 1:
            optimizer_closure()
        else:
            optimizer.step(closure=optimizer_closure)


class Accumulating(Odd):
    """Never zeroes its gradients."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        pass


class Frozen(Odd):
    """Learns its head and one bias below."""

    def __init__(self) -> None:
        super().__init__()
        self.body.requires_grad_(False)
        self.body[0].bias.requires_grad_(True)


class LowRank(Odd):
    """LoRA by peft."""

    def __init__(self) -> None:
        super().__init__()
        import peft  # noqa: PLC0415

        config = peft.LoraConfig(r=2, target_modules=["1"], lora_dropout=0.1)
        self.head = nn.Sequential(*[nn.Flatten(), nn.Linear(288, 16), nn.Linear(16, 2)])
        self.head = peft.inject_adapter_in_model(config, self.head)
        self.body.requires_grad_(False)


class Logging(Odd):
    """Logs values of all servers, and computes with its rank."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("outcome", torch.zeros(6, dtype=torch.float64))
        self.printed: list[str] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        for name in ("mean", "sum", "max"):
            self.log(name, loss, sync_dist=True, reduce_fx=name, on_step=True, on_epoch=False)
        self.log("epoch", loss, sync_dist=True, on_step=False, on_epoch=True)
        self.log("mine", loss, on_step=True, on_epoch=False)
        if self.trainer.is_global_zero:
            self.outcome[5] += 1
        return loss * (1 + self.global_rank + self.local_rank) / self.trainer.world_size

    def on_train_end(self) -> None:
        for i, name in enumerate(("mean", "sum", "max", "epoch", "mine")):
            self.outcome[i] = self.trainer.callback_metrics[name]
        # The mean of an epoch is added up server by server, or step by step.
        self.outcome[3] = self.outcome[3].round(decimals=4)
