"""Re-optimisation of small layers with known answers, and what it is built of.

Covers: optinc.onn.chip.calibration.inputs, optinc.onn.chip.calibration.jacobian
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from optinc.onn.chip.calibration.correction import correct_layer
from optinc.onn.chip.calibration.inputs import seen_inputs
from optinc.onn.chip.calibration.jacobian import answers
from optinc.onn.chip.calibration.reoptimise import (
    GaussNewton,
    LayerTask,
    _nearest_plane,
    reoptimise,
)
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import LayerErrors, draw_errors
from optinc.onn.chip.layers import play
from optinc.onn.dataset import samples_of_index
from optinc.onn.layer_factors import LayerDescription, factor
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import BiasForm, ChipSettings, Shifters
from optinc.photonics.decomposition import decompose
from optinc.photonics.parts.phase_shifter import FULL_TURN


def layer_of(
    outputs: int, inputs: int, *, shifters: Shifters, headroom: float = 0.1
) -> tuple[LayerDescription, dict[str, Tensor], Tensor]:
    """A layer in SVD form of random weights: its form, phases for ideal parts, and [W, b]."""
    torch.manual_seed(2)
    linear = nn.Linear(inputs, outputs)
    factors = factor(linear, approximated=False, bias="attenuator")
    layer = replace(factors.layer, gain=factors.layer.gain * (1 + headroom))
    phases = {
        name: torch.asin(value / (1 + headroom)).unsqueeze(0)
        for name, value in factors.attenuations.items()
    }
    for mesh, unitary in factors.unitaries.items():
        found = decompose(unitary, shifters=shifters)
        phases |= {
            f"{mesh}.theta": found.theta_BE.unsqueeze(0),
            f"{mesh}.phi": found.phi_BE.unsqueeze(0),
            f"{mesh}.output": found.output_Bn.unsqueeze(0),
        }
    weight = torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1).detach().double()
    return layer, phases, weight


def seen(
    layer: LayerDescription, phases: dict[str, Tensor], errors: LayerErrors, shifters: Shifters
) -> Tensor:
    """What detectors see of a layer: [C, m, n + 1], biases last."""
    transfer = play(layer, phases, errors, shifters=shifters)
    weight = torch.diag_embed(transfer.weight) if layer.bare else transfer.weight
    return torch.cat([weight, transfer.bias_Cm.unsqueeze(-1)], dim=-1).real


def task_of(shifters: Shifters, **settings: Any) -> tuple[LayerTask, dict[str, Tensor], Tensor]:
    """A small layer on three chips, corrected one interferometer at a time."""
    layer, phases, weight = layer_of(4, 3, shifters=shifters)
    chip = ChipSettings(shifters=shifters, bias="attenuator", **settings)
    errors = draw_errors(layer, chip, Draws(0, 3), index=0)
    task = LayerTask(
        layer=layer,
        errors=errors,
        target_mq=weight,
        inputs_nq=torch.eye(4, dtype=torch.float64),
        shifters=shifters,
        phase_bits=chip.phase_bits,
    )
    return task, correct_layer(layer, phases, errors, shifters=shifters), weight


KNOWN = {"coupler_error": 0.05, "phase_error": 0.01, "mzi_loss_spread": 0.1, "mzi_loss": 0.2}


EXACT = GaussNewton(steps=20, enough=1e-6, least_weight=0.0)


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_known_errors_of_a_small_layer_are_made_up_for_exactly(shifters: Shifters) -> None:
    task, corrected, weight = task_of(shifters, **KNOWN)
    before = seen(task.layer, corrected, task.errors, shifters)
    assert float((before - weight).norm() / weight.norm()) > 0.01
    found, lacking = reoptimise(task, corrected, EXACT)
    assert float(lacking.max()) < 1e-5
    after = seen(task.layer, found, task.errors, shifters)
    torch.testing.assert_close(after, weight.expand(3, -1, -1), rtol=0, atol=1e-5)
    assert bool((found["attenuation"].sin() <= 1).all())


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_rounding_that_is_made_up_for_beats_rounding_to_the_nearest_step(
    shifters: Shifters,
) -> None:
    bits = 10
    task, corrected, weight = task_of(shifters, **KNOWN, phase_bits=bits)
    best, _ = reoptimise(replace(task, phase_bits=None), corrected, EXACT)
    found, lacking = reoptimise(task, corrected, EXACT)
    step = FULL_TURN / 2**bits
    for name, value in found.items():
        one_arm = name.endswith(".theta") and shifters == "one_arm"
        half = one_arm or name in task.layer.attenuator_shapes
        steps = value / (step / 2 if half else step)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
    # The errors of this task have DACs, so that what is played is on their steps anyhow.
    nearest = seen(task.layer, best, task.errors, shifters) - weight
    reached = seen(task.layer, found, task.errors, shifters) - weight
    of_weight = reached.flatten(1).norm(dim=1) / weight.norm()
    torch.testing.assert_close(of_weight, lacking, rtol=0, atol=1e-5)
    assert float(reached.norm()) < 0.8 * float(nearest.norm())


def test_phases_that_do_not_depend_on_each_other_are_rounded_to_the_nearest_step() -> None:
    best = torch.tensor([[0.26, 0.74, 5.0]], dtype=torch.float64)
    step = torch.full_like(best, 0.5)
    within = (torch.full_like(best, -1.0), torch.full_like(best, 2.0))
    lower = torch.eye(3, dtype=torch.float64).unsqueeze(0)
    found = _nearest_plane(best, lower, step, within, last=2)
    assert found.tolist() == [[0.26, 0.5, 2.0]]


def test_a_rounded_phase_is_made_up_for_by_those_that_come_after_it() -> None:
    # Only the sum counts: |p0 + p1 - 0.9|^2, and 1e-3 of |p|^2 more.
    curvature = torch.ones(1, 2, 2, dtype=torch.float64) + 1e-3 * torch.eye(2)
    best = torch.full((1, 2), 0.45, dtype=torch.float64)
    step = torch.tensor([[0.1, 1.0]], dtype=torch.float64)
    within = (torch.full_like(best, -9.0), torch.full_like(best, 9.0))
    found = _nearest_plane(best, torch.linalg.cholesky(curvature), step, within, last=2)
    # The coarse one first, to 0; the fine one gives all that is asked for.
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.0]], dtype=torch.float64))


ALL = {
    **KNOWN,
    "skip_loss": 0.05,
    "splitter_imbalance": 0.1,
    "bias_error": 0.01,
    "gain_error": 0.01,
    "attenuator_error": 0.01,
    "extinction": 25.0,
}


def smallest(shifters: Shifters, bias: BiasForm) -> MeshProgramme:
    return map_onn(load_named("b8_n4_half_even_smallest"), shifters=shifters, bias=bias)


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("bias", ["port", "attenuator"])
@pytest.mark.parametrize("index", [0, 6])
def test_answers_are_the_slopes_of_what_chips_play(
    index: int, bias: BiasForm, shifters: Shifters
) -> None:
    """Layer 1 is an SVD; layer 7 has blocks of 4 and of 1 mode, combined."""
    programme = smallest(shifters, bias)
    layer = programme.layers[index]
    settings = ChipSettings(shifters=shifters, bias=bias, **ALL)
    errors = draw_errors(layer, settings, Draws(0, 2), index=index)
    torch.manual_seed(0)
    phases = {
        name: value.expand(2, *value.shape[1:]) + 0.1 * torch.rand(2, *value.shape[1:])
        for name, value in programme.layer_phases(index).items()
    }
    inputs = torch.randn(layer.inputs + 1, 3, dtype=torch.float64)
    found = answers(layer, phases, errors, inputs, shifters=shifters)
    outputs = seen(layer, phases, errors, shifters) @ inputs
    torch.testing.assert_close(found.outputs_Cmq, outputs)
    direction = {name: torch.randn_like(value) for name, value in phases.items()}

    def moved(step: float) -> Tensor:
        there = {name: value + step * direction[name] for name, value in phases.items()}
        return seen(layer, there, errors, shifters) @ inputs

    slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    along = sum(
        torch.einsum("cd,cdmq->cmq", direction[name].flatten(1), by_phase)
        for name, by_phase in found.by_phase.items()
    )
    torch.testing.assert_close(cast("Tensor", along), slope, rtol=1e-6, atol=1e-6)


def test_inputs_weigh_errors_by_what_they_do_to_outputs() -> None:
    onn = load_named("b8_n4_half_even_smallest")
    network, scenario = onn.network, onn.card.scenario
    noise = 0.01
    inputs = seen_inputs(network, scenario, noise=noise)
    averages = samples_of_index(torch.arange(scenario.combinations), scenario).averages_PK
    error = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    offset = torch.ones(10)
    signal = averages * network.input_scale + network.input_offset
    # Layer 1: what an error of weights and biases does to outputs, with noise on 12 of full scale.
    off = (signal @ error.mT + offset).double().square().mean(0).sum()
    off += (noise * 12) ** 2 * error.double().square().sum()
    weighed = torch.cat([error, offset.unsqueeze(1)], dim=1).double() @ inputs[0]
    assert float(weighed.square().sum()) == pytest.approx(float(off), rel=1e-5)
    assert [len(each) for each in inputs] == [5, 11, 11, 11, 11, 8, 6]
    assert math.isfinite(float(inputs[-1].sum()))
