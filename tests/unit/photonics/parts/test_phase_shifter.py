from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import phase_shifter
from optinc.photonics.parts.phase_shifter import FULL_TURN, PhaseShifter


def test_a_dac_of_two_bits_reaches_quarters_of_a_turn_and_what_rounds_up_to_a_turn_wraps() -> None:
    quarter = math.pi / 2
    asked = torch.tensor([0.0, 0.4 * quarter, 0.6 * quarter, 2.6 * quarter, 3.6 * quarter])
    got = phase_shifter.quantize(asked.double(), bits=2)
    expected = torch.tensor([0.0, 0.0, quarter, 3 * quarter, 0.0], dtype=torch.float64)
    assert torch.allclose(got, expected)


def test_ties_go_to_the_even_code() -> None:
    codes = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
    got = phase_shifter.quantize(codes * FULL_TURN / 16, bits=4)
    assert torch.equal(got, torch.tensor([0.0, 2.0, 2.0, 4.0]).double() * FULL_TURN / 16)


@pytest.mark.parametrize("bits", [1, 6, 10, 12])
def test_rounding_errs_by_half_a_step_at_most_and_by_a_step_over_root_12_rms(bits: int) -> None:
    asked = torch.rand(20_000, generator=torch.Generator().manual_seed(1)).double() * FULL_TURN
    error = phase_shifter.quantize(asked, bits=bits) - asked
    error = (error + math.pi).remainder(FULL_TURN) - math.pi
    step = FULL_TURN / 2**bits
    assert error.abs().max() <= step / 2 + 1e-12
    assert float(error.square().mean().sqrt()) == pytest.approx(step / math.sqrt(12), rel=0.02)


def test_turns_do_not_matter_and_quantising_twice_changes_nothing() -> None:
    asked = torch.linspace(-7, 14, 301, dtype=torch.float64)
    once = phase_shifter.quantize(asked, bits=8)
    assert torch.equal(phase_shifter.quantize(once, bits=8), once)
    assert torch.equal(phase_shifter.quantize(asked + 3 * FULL_TURN, bits=8), once)
    assert phase_shifter.quantize(asked, bits=None) is asked


def test_gradients_pass_the_dac_straight_through() -> None:
    phases = torch.tensor([0.3, 1.7], requires_grad=True)
    (phase_shifter.quantize(phases, bits=3) * torch.tensor([2.0, 5.0])).sum().backward()
    assert phases.grad is not None
    assert phases.grad.tolist() == [2.0, 5.0]


def test_a_heater_warms_its_two_neighbours_and_nobody_else() -> None:
    phases = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0])
    got = phase_shifter.add_crosstalk(phases, share=0.01)
    assert torch.allclose(got, torch.tensor([0.0, 0.02, 2.0, 0.02, 0.0]))
    alone = torch.tensor([[1.0], [2.0]])
    assert torch.equal(phase_shifter.add_crosstalk(alone, share=0.01), alone)


def test_a_column_is_quantised_then_heated_then_off_by_its_error() -> None:
    part = PhaseShifter.of(ChipSettings(phase_error=0.1, phase_bits=2, crosstalk=0.5))
    played = part.played(torch.tensor([1.6, 0.1]), torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    quarter = math.pi / 2
    expected = torch.tensor([[quarter + 0.1, quarter / 2 - 0.1], [quarter, quarter / 2]])
    assert torch.allclose(played, expected)


def test_light_is_turned_by_the_phase() -> None:
    field = torch.tensor([1.0 + 0j, 1j])
    turned = phase_shifter.shift(field, torch.tensor(math.pi / 2))
    assert torch.allclose(turned, torch.tensor([1j, -1.0 + 0j]), atol=1e-7)
