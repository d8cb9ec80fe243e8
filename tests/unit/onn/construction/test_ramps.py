from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optinc.onn.construction.ramps import RAMPS, StepForm
from optinc.onn.construction.stages import Sum
from optinc.onn.construction.values import Value
from optinc.photonics.parts.electronics import soft_relu

LARGEST = 12


def played(form: StepForm, x_P: Tensor, *, copies: int = 1, leak: float | None = None) -> Tensor:
    """Return all steps [x >= t], t = 1 to 12, of ramps of w = 1/6, float64 [P, 12]."""
    value = Value(torch.ones(1, dtype=torch.float64), 0.0, LARGEST)
    ramps = RAMPS[form](copies, 1 / 6)
    sums = []
    for step in ramps.steps(value, range(1, LARGEST + 1)):
        sums.append(Sum(lambda x: 0, largest=1))
        step.add(sums[-1], 1)
    layers = ramps.layers()
    signal = x_P.double().unsqueeze(1)
    for weights, offsets in layers:
        signal = soft_relu(signal @ weights.mT + offsets, knee=0.0, leak=leak)
    readings = [total.value(len(layers[-1][1])) for total in sums]
    return torch.stack([signal @ read.weights + read.offset for read in readings], 1)


def ideal(x_P: Tensor) -> Tensor:
    return (x_P.unsqueeze(1) >= torch.arange(1, LARGEST + 1)).double()


@pytest.mark.parametrize("form", RAMPS)
@pytest.mark.parametrize("copies", [1, 3])
def test_what_moves_x_by_less_than_a_third_is_gone(form: StepForm, copies: int) -> None:
    x = torch.arange(LARGEST + 1)
    for moved in (-0.33, -0.1, 0.0, 0.2, 0.33):
        found = played(form, x + moved, copies=copies)
        assert torch.allclose(found, ideal(x), atol=1e-9)


@pytest.mark.parametrize("form", RAMPS)
def test_a_step_is_half_way_between_two_integers(form: StepForm) -> None:
    found = played(form, torch.tensor([6.5]))[0]
    assert found[6] == pytest.approx(0.5)
    assert torch.allclose(found[[5, 7]], torch.tensor([1.0, 0.0]).double(), atol=1e-9)


def test_what_leaks_from_both_ramps_of_a_step_cancels() -> None:
    """A leak l of -30 dB moves a one-sided step by 1.07, others by the closed forms below."""
    x, leak = torch.arange(LARGEST + 1), 10 ** (-30 / 20)
    errors = {form: (played(form, x, leak=30.0) - ideal(x)).abs() for form in RAMPS}
    # The falling ramp of t = 6 at x = 0: 6 units, so b = -l (6 / (2/3) - 1), and c = 1 - 2 b.
    assert float(errors["one_sided"][0, 5]) == pytest.approx(2 * leak * 8, rel=1e-6)
    # s = 1 gives b = -l (3/2 - 1) and c = 1 - 2 b, for every x that is a unit or more below.
    inner = slice(1, LARGEST - 1)
    for form in ("two_sided", "pairs"):
        assert float(errors[form][:, inner].max()) == pytest.approx(leak, rel=0.1)
    # The first and last step have one ramp: x = 12 leaves a = -11 l, b = 1 + 16.5 l, c = -l (...).
    alone = leak * (1 + 2 * 16.5 * leak)
    assert float(errors["two_sided"].max()) == pytest.approx(alone, rel=1e-6)


def test_neighbouring_steps_share_their_ramps() -> None:
    value = Value(torch.ones(1, dtype=torch.float64), 0.0, LARGEST)
    ramps = RAMPS["two_sided"](1, 1 / 6)
    ramps.steps(value, range(1, LARGEST + 1))
    widths = [len(offsets) for _, offsets in ramps.layers()]
    # Six falling ramps for t = 1 to 6 and six rising ones: the darkest of each is left out.
    assert widths == [12, 12, 12]
