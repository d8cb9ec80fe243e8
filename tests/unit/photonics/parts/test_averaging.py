from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import averaging
from optinc.photonics.parts.modulator import Modulator

DRAWS = 100_000


def phases(sigma: float, servers: int = 4) -> torch.Tensor:
    normal = torch.randn(
        DRAWS, servers, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    return averaging.residual_phases(normal, sigma=sigma)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5, 2.0, math.inf])
def test_the_mean_field_falls_and_scatters_as_the_closed_form_says(sigma: float) -> None:
    fields = torch.ones(4, dtype=torch.complex128)
    got = averaging.coherent_average(fields, phases(sigma))
    expected = averaging.mean_field(sigma)
    variance = averaging.field_variance(sigma, servers=4)
    assert expected == pytest.approx(math.exp(-(sigma**2) / 2))
    assert abs(complex(got.mean()) - expected) <= 4 * math.sqrt(variance / DRAWS) + 1e-12
    scatter = float((got - expected).abs().square().mean())
    assert scatter == pytest.approx(variance, rel=0.02, abs=1e-12)
    in_phase = averaging.in_phase_variance(sigma, servers=4)
    assert float(got.real.var()) == pytest.approx(in_phase, rel=0.03, abs=1e-12)


@pytest.mark.parametrize(
    ("sigma", "mean", "scatter"),
    [
        (0.05, 0.9988, 0.09),
        (0.1, 0.9950, 0.35),
        (0.2, 0.9802, 1.39),
        (0.5, 0.8825, 7.82),
        (math.inf, 0.0, 35.36),
    ],
)
def test_figures_of_the_page_of_parts(sigma: float, mean: float, scatter: float) -> None:
    assert round(averaging.mean_field(sigma), 4) == mean
    assert round(100 * math.sqrt(averaging.in_phase_variance(sigma, servers=4)), 2) == scatter


def test_free_running_lasers_have_phases_equally_likely_over_the_turn() -> None:
    turns = phases(math.inf) / (2 * math.pi)
    assert 0 <= turns.min() <= turns.max() <= 1
    share = torch.histc(turns, bins=10, min=0, max=1) / turns.numel()
    assert torch.allclose(share, torch.full_like(share, 0.1), atol=4e-3)
    assert averaging.mean_field(ChipSettings(phase_drift=math.inf).phase_drift) == 0


def test_without_phases_fields_average() -> None:
    fields = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0], dtype=torch.complex128)
    got = averaging.coherent_average(fields, torch.zeros(4, dtype=torch.float64))
    assert complex(got) == pytest.approx(0.5)


def test_intensities_average_whatever_the_phases() -> None:
    levels = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0], dtype=torch.float64)
    sent = averaging.intensity_field(levels)
    turned = sent * torch.exp(1j * phases(math.inf)[:5])
    assert torch.allclose(averaging.incoherent_average(turned), torch.full((5,), 0.5).double())


def test_a_dark_symbol_that_is_not_dark_shifts_and_shrinks_an_average_of_intensities() -> None:
    """Only affinely, e^2 + (1 - e^2) mean: one gain and one offset make up for it."""
    levels = torch.rand(6, 4, dtype=torch.float64)
    part = Modulator(extinction=10.0)
    got = averaging.incoherent_average(part.modulate(averaging.intensity_field(levels)))
    assert torch.allclose(got, 0.1 + 0.9 * levels.mean(-1))


def test_light_that_is_a_tenth_of_a_symbol_late_has_a_tenth_of_the_symbol_before() -> None:
    current, before = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    got = averaging.skewed(current, before, torch.tensor([0.1, -0.25]))
    assert torch.allclose(got, torch.tensor([0.9, 0.25]))


def test_gradients_reach_fields_and_phases() -> None:
    amplitude = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    phase = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)

    def average(a: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(averaging.coherent_average(a + 0j, p))

    assert torch.autograd.gradcheck(average, (amplitude, phase))
