"""Trains an ONN for its whole schedule, without files."""

from __future__ import annotations

import pytorch_lightning as pl

from optinc.onn.training.one_switch import ONNTraining


def fit(module: ONNTraining, *callbacks: pl.Callback) -> None:
    """Train on the CPU, without logs and checkpoints."""
    pl.Trainer(
        accelerator="cpu",
        max_epochs=module.max_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    ).fit(module)
