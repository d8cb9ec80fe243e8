from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.onn.training import one_switch as training_module
from optinc.onn.training.losses import MarginLoss
from optinc.onn.training.one_switch import ONNTraining


def module_of(design: ONNDesign, *, max_epochs: int, noise: float) -> ONNTraining:
    return ONNTraining(
        design=design,
        loss=MarginLoss(tolerance=0.3),
        optimizer="muon",
        learning_rate=1e-2,
        batch_size=7,
        max_epochs=max_epochs,
        projection_interval=3,
        min_margin=0.001,
        noise=noise,
        epoch_inputs=None,
        hard_share=0.0,
        hard_margin=0.1,
        seed=0,
    )


@pytest.mark.parametrize(
    ("wrong", "noise", "kept"),
    [
        ((5, 1, 3), 0.0, 1),
        ((5, 3, 1), 0.0, 2),
        ((1, 1, 1), 0.0, 1),
        # Under noise the aim is not the accuracy without it: the last weights count.
        ((5, 1, 3), 0.01, 2),
    ],
)
def test_the_best_weights_are_kept(
    small_design: ONNDesign,
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[int, ...],
    noise: float,
    kept: int,
) -> None:
    margins = (-0.5, -0.2, -0.3)
    seen: list[dict[str, Tensor]] = []

    def evaluate(network: OpticalNetwork, *_: Any, **__: Any) -> Evaluation:
        epoch = len(seen)
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return Evaluation(
            combinations=49,
            evaluated_inputs=49,
            wrong_inputs=wrong[epoch],
            error_values={1: wrong[epoch]},
            smallest_margin=margins[epoch],
        )

    monkeypatch.setattr(training_module, "evaluate_exhaustively", evaluate)
    module = module_of(small_design, max_epochs=3, noise=noise)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    assert module.evaluation is not None
    assert module.evaluation.wrong_inputs == wrong[kept]
    assert module.evaluation.smallest_margin == margins[kept]
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, seen[kept][name])
    assert any(not torch.equal(seen[0][name], seen[2][name]) for name in seen[0])
