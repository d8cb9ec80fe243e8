"""ResNet image classifier (torchvision)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34, resnet50

from optinc.errors import ConfigurationError
from optinc.models.base import OptimizerFactory, OptINCModel, SchedulerFactory

ARCHITECTURES = {18: resnet18, 34: resnet34, 50: resnet50}


class ResNetClassifier(OptINCModel):
    """ResNet with zero-initialised residual branches and cross-entropy.

    Args:
        num_classes: Classes of the data.
        depth: 18, 34 or 50.
        stem: ``imagenet`` (7x7, stride 2, max pool) or ``cifar`` (3x3, stride 1, no pool), which
            keeps the resolution of 32x32 images at about 15 times the cost.
        label_smoothing: Label smoothing of the training loss, 0 to 1.
        optimizer: See :class:`OptINCModel`.
        scheduler: See :class:`OptINCModel`.

    Raises:
        ConfigurationError: If depth or stem is illegal; names the legal values.
    """

    modality = "images"

    def __init__(
        self,
        *,
        num_classes: int,
        depth: int,
        stem: Literal["imagenet", "cifar"],
        label_smoothing: float,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        if depth not in ARCHITECTURES:
            raise ConfigurationError(f"model.depth must be one of 18, 34, 50, got {depth}")
        if stem not in ("imagenet", "cifar"):
            raise ConfigurationError(f"model.stem must be imagenet | cifar, got {stem!r}")
        self.label_smoothing = label_smoothing
        self.network = ARCHITECTURES[depth](num_classes=num_classes, zero_init_residual=True)
        if stem == "cifar":
            self.network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(self.network.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.network.maxpool = nn.Identity()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits [B, classes]."""
        logits: Tensor = self.network(images_BCHW)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch (images, labels)."""
        images, labels = batch
        loss = nn.functional.cross_entropy(
            self(images), labels, label_smoothing=self.label_smoothing
        )
        self.log("train_loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log cross-entropy and top-1 accuracy."""
        images, labels = batch
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(-1) == labels).to(torch.float32).mean()
        self.log_dict(
            {"val_loss": loss, "val_acc": accuracy},
            prog_bar=True,
            batch_size=len(labels),
            sync_dist=True,
        )
