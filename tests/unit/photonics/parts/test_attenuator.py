from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import attenuator
from optinc.photonics.parts.attenuator import Attenuator

NORMAL = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)


def test_the_error_is_relative_to_the_setting() -> None:
    part = Attenuator.of(ChipSettings(attenuator_error=0.01))
    got = part.transmission(torch.tensor([0.5, -0.1, 0.0], dtype=torch.float64), NORMAL)
    expected = torch.tensor([[0.505, -0.101, 0.0], [0.49, -0.098, 0.0]], dtype=torch.float64)
    assert torch.allclose(got, expected)


def test_a_passive_part_gives_no_gain() -> None:
    got = Attenuator(error=0.1).transmission(torch.tensor([1.0, -1.0], dtype=torch.float64), NORMAL)
    assert got.tolist() == [[1.0, -1.0], [0.8, -0.8]]


def test_a_phase_error_of_an_mzi_matters_most_where_little_light_passes() -> None:
    setting = torch.tensor([0.0, 0.6], dtype=torch.float64)
    got = attenuator.mzi_transmission(setting, torch.tensor(0.01, dtype=torch.float64))
    assert float(got[0]) == pytest.approx(-math.sin(0.01))
    assert float(got[1]) == pytest.approx(0.6 * math.cos(0.01) - 0.8 * math.sin(0.01))
