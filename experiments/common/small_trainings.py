"""The two small trainings of studies that are paired by seeds: a LLaMA and a ResNet18."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.common.paired import Training

COMMON = (
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "trainer.log_every_n_steps=1",
    "callbacks=no_checkpoint",
)
"""Overrides of every run: every loss is kept, and nothing that the results do not need."""

TRAININGS: Mapping[str, Training] = {
    "llama": Training(
        title="LLaMA 3 x 128, bytes of WikiText-2",
        settings=(
            "model=llama_tiny",
            "model.layers=3",
            "model.hidden_size=128",
            "model.heads=4",
            "model.intermediate_size=344",
            "data=text",
        ),
        full=(
            "trainer.max_steps=800",
            "trainer.val_check_interval=800",
            "trainer.limit_val_batches=100",
        ),
        quick=(
            "trainer.max_steps=20",
            "trainer.val_check_interval=20",
            "trainer.limit_val_batches=10",
        ),
        metric="val_loss",
        unit="nats a byte",
        factor=1,
        better=-1,
    ),
    "resnet18": Training(
        title="ResNet18, CIFAR-100",
        settings=(
            "model=resnet18",
            "model.label_smoothing=0.1",
            "data=cifar100",
        ),
        full=("trainer.max_epochs=1", "trainer.limit_train_batches=130"),
        quick=(
            "trainer.max_epochs=1",
            "trainer.limit_train_batches=5",
            "trainer.limit_val_batches=8",
        ),
        metric="val_acc",
        unit="points of top-1",
        factor=100,
        better=1,
    ),
}
