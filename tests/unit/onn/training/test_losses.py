from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.training.losses import MarginLoss, PaperLoss, tolerable_deviation

SYMBOLS = torch.tensor([[1, 2], [3, 0]])
AMPLITUDES = torch.tensor([[1.5, 2.0], [3.0, 0.2]])


def test_stage_one_weighs_each_symbol_s_squared_error() -> None:
    uniform = PaperLoss(first_stage_epochs=5, symbol_weights="uniform")
    assert uniform(AMPLITUDES, SYMBOLS, epoch=4).item() == pytest.approx((0.25 + 0.04) / 4)
    positional = PaperLoss(first_stage_epochs=5, symbol_weights="positional")
    expected = (0.25 * 1.6 + 0.04 * 0.4) / 4
    assert positional(AMPLITUDES, SYMBOLS, epoch=4).item() == pytest.approx(expected)
    listed = PaperLoss(first_stage_epochs=5, symbol_weights=[1.0, 3.0])
    assert listed(AMPLITUDES, SYMBOLS, epoch=0).item() == pytest.approx(
        (0.25 * 0.5 + 0.04 * 1.5) / 4
    )


def test_stage_two_compares_the_reconstructed_gradients() -> None:
    loss = PaperLoss(first_stage_epochs=5, symbol_weights="uniform")
    # Errors of G: 4 * 0.5 and 0.2, of a full scale of 15.
    expected = ((2.0 / 15) ** 2 + (0.2 / 15) ** 2) / 2
    assert loss(AMPLITUDES, SYMBOLS, epoch=5).item() == pytest.approx(expected)


def test_errors_inside_the_margin_cost_nothing() -> None:
    loss = MarginLoss(tolerance=0.3)
    assert loss(AMPLITUDES, SYMBOLS, epoch=0).item() == pytest.approx(0.2**2 / 4)
    assert loss(SYMBOLS + 0.29, SYMBOLS, epoch=0).item() == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MarginLoss(tolerance=0.5), "onn_training.loss.tolerance must be at least 0"),
        (
            lambda: PaperLoss(first_stage_epochs=-1, symbol_weights="uniform"),
            "onn_training.loss.first_stage_epochs must be at least 0",
        ),
        (
            lambda: PaperLoss(first_stage_epochs=1, symbol_weights="equal"),  # type: ignore[arg-type]
            r"onn_training.loss.symbol_weights must be uniform \| positional",
        ),
        (
            lambda: PaperLoss(first_stage_epochs=1, symbol_weights=[1.0, -1.0]),
            "onn_training.loss.symbol_weights must be positive",
        ),
        (
            lambda: PaperLoss(first_stage_epochs=1, symbol_weights=[1.0])(
                AMPLITUDES, SYMBOLS, epoch=0
            ),
            "onn_training.loss.symbol_weights must hold 2 weights",
        ),
    ],
)
def test_illegal_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(("right", "outputs"), [(0.9, 4), (0.999, 4), (0.99, 8)])
def test_outputs_that_err_by_the_tolerable_deviation_are_as_often_right(
    right: float, outputs: int
) -> None:
    sigma = tolerable_deviation(right=right, outputs=outputs, margin=0.4)
    within = math.erf(0.4 / (sigma * math.sqrt(2)))
    assert within**outputs == pytest.approx(right, abs=1e-9)
    with pytest.raises(ValueError, match="above 0 and below 1, got 1"):
        tolerable_deviation(right=1, outputs=outputs)
