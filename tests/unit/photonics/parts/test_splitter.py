from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import splitter
from optinc.photonics.parts.splitter import Splitter


def ideal(ways: int) -> torch.Tensor:
    return torch.zeros(1, ways - 1, dtype=torch.float64)


@pytest.mark.parametrize("ways", [1, 2, 3, 4, 5, 7, 8, 13, 16])
def test_every_output_has_the_same_share_of_the_power(ways: int) -> None:
    got = Splitter(ways=ways).amplitudes(ideal(ways))
    assert got.shape == (1, ways)
    assert torch.allclose(got, torch.full_like(got, 1 / math.sqrt(ways)))


@pytest.mark.parametrize(("ways", "stages"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4)])
def test_the_tree_is_as_deep_as_the_logarithm(ways: int, stages: int) -> None:
    part = Splitter(ways=ways, excess_loss=0.3)
    assert part.stages == stages
    assert part.loss == pytest.approx(10 * math.log10(ways) + 0.3 * stages)
    weakest = float(part.amplitudes(ideal(ways)).min())
    assert -20 * math.log10(weakest) == pytest.approx(part.loss)


def test_an_output_loses_the_excess_of_the_stages_on_its_way() -> None:
    """1:3 is a stage of 2:1 with another stage on its upper side."""
    got = Splitter(ways=3, excess_loss=1.0).amplitudes(ideal(3)).square()
    two, one = 10**-0.2 / 3, 10**-0.1 / 3
    assert torch.allclose(got, torch.tensor([[two, two, one]], dtype=torch.float64))


def test_an_imbalance_of_3_db_sends_two_thirds_to_the_upper_side_and_loses_nothing() -> None:
    decibels = 10 * math.log10(2)
    part = Splitter.of(ChipSettings(splitter_imbalance=1.0), ways=4)
    normal = torch.tensor([[decibels, 0.0, 0.0], [0.0, 0.0, -decibels]], dtype=torch.float64)
    got = part.amplitudes(normal).square()
    expected = [[1 / 3, 1 / 3, 1 / 6, 1 / 6], [1 / 4, 1 / 4, 1 / 6, 1 / 3]]
    assert torch.allclose(got, torch.tensor(expected, dtype=torch.float64))
    drawn = Splitter(ways=11, imbalance=0.5).amplitudes(torch.randn(7, 10).double())
    assert torch.allclose(drawn.square().sum(-1), torch.ones(7, dtype=torch.float64))


def test_a_combiner_adds_k_fields_as_their_sum_over_root_k() -> None:
    fields = torch.randn(5, 6, dtype=torch.complex128)
    got = splitter.combine(fields, Splitter(ways=6).amplitudes(ideal(6)))
    assert torch.allclose(got, fields.sum(-1) / math.sqrt(6))


def test_splitting_and_combining_gives_the_light_back_but_for_the_losses_of_both() -> None:
    part = Splitter(ways=8, excess_loss=0.25)
    share = part.amplitudes(ideal(8))
    light = torch.tensor([2.0 + 1j], dtype=torch.complex128)
    back = splitter.combine(splitter.split(light, share), share)
    assert float((back / light).abs()) == pytest.approx(10 ** (-2 * 3 * 0.25 / 20))


def test_gradients_reach_the_errors_of_all_stages() -> None:
    normal = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Splitter(ways=5, imbalance=0.3).amplitudes, (normal,))
