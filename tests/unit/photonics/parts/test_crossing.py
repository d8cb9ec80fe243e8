from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.crossing import Crossing


def test_light_goes_straight_on_and_loses_what_the_setting_says() -> None:
    matrix = Crossing.of(ChipSettings(crossing_loss=0.18)).matrix()
    assert -20 * math.log10(float(matrix[0, 0].abs())) == pytest.approx(0.18)
    assert matrix[0, 1] == matrix[1, 0] == 0


def test_the_leak_is_as_far_below_the_input_as_the_isolation_and_in_quadrature() -> None:
    matrix = Crossing(loss=0.18, isolation=41.0).matrix()
    assert -20 * math.log10(float(matrix[1, 0].abs())) == pytest.approx(41.0)
    assert float(matrix[1, 0].real) == 0


def test_no_light_is_made() -> None:
    """The isolation of 41 dB takes 0.00034 dB: a loss of less would be impossible."""
    matrix = Crossing(loss=-10 * math.log10(1 - 10**-4.1), isolation=41.0).matrix()
    assert torch.allclose(matrix.mH @ matrix, torch.eye(2, dtype=torch.complex128), atol=1e-12)
