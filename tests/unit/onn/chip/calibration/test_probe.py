"""A probed layer reads what drawn parts play, with their noise, and counts what it reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.chip.calibration.probe import (
    ATTENUATOR_PATIENCE,
    ATTENUATOR_SHIFT,
    PHASE_SHIFT,
    Count,
    ProbedLayer,
    grid,
    on_grid,
    quiet,
)
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.chip.layers import play
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics.chip_settings import ChipSettings

ERRORS: dict[str, Any] = {"coupler_error": 0.05, "phase_error": 0.02, "mzi_loss_spread": 0.1}

SVD = LayerDescription("svd", outputs=3, inputs=2, bias="port", gain=2.0, reference=0.5)
BLOCKS = LayerDescription("sigma_u", outputs=4, inputs=2, bias="attenuator", gain=2.0, reference=1)
DIAGONAL = LayerDescription("diagonal", 3, 3, bias="attenuator", gain=3.0, reference=0.5)


def phases_of(layer: LayerDescription, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 + torch.rand(1, *shape, generator=generator, dtype=torch.float64)
        for name, shape in layer.settings.items()
    }


def probed(
    layer: LayerDescription, settings: ChipSettings, *, scale: float = 1.0, chips: int = 1
) -> ProbedLayer:
    errors = draw_errors(layer, settings, Draws(settings.seed, chips), index=0)
    generator = torch.Generator().manual_seed(0)
    return ProbedLayer(layer, errors, settings, scale=scale, generator=generator)


def test_a_chip_can_be_set_and_measured_and_nothing_else() -> None:
    probe = probed(SVD, ChipSettings(**ERRORS))
    offered = {name for name in dir(probe) if not name.startswith("_")}
    assert offered == {"set", "measure", "measure_answers", "layer", "count"}


@pytest.mark.parametrize("layer", [SVD, BLOCKS, DIAGONAL])
def test_without_noise_the_weights_of_the_drawn_parts_are_read(layer: LayerDescription) -> None:
    settings = ChipSettings(**ERRORS, phase_bits=8)
    probe, phases = probed(layer, settings), phases_of(layer)
    probe.set(phases)
    errors = draw_errors(layer, settings, Draws(0, 1), index=0)
    played = play(layer, on_grid(phases, layer, settings), errors, shifters=settings.shifters)
    read = probe.measure(symbols=1)[0]
    weight = torch.diag(played.weight[0]) if layer.bare else played.weight[0]
    assert torch.equal(read[:, :-1], weight.real)
    assert torch.equal(read[:, -1], played.bias_Cm[0].real)


def test_noise_is_that_of_inputs_and_detectors_and_shrinks_with_the_mean() -> None:
    """A weight is the difference of two readings: inputs times weights, and detectors, twice."""
    noisy, scale, symbols = ChipSettings(noise=0.02, receiver_noise=0.03), 4.0, 100
    # Chips without static errors are alike: each is one more reading.
    probe, phases = probed(SVD, noisy, scale=scale, chips=4000), phases_of(SVD)
    probe.set(phases)
    read = probe.measure(symbols=symbols)
    weight = read.mean(0)[:, :-1]
    inputs = (0.02 * scale) ** 2 * weight.square().sum(1)
    one = (inputs + (0.03 * SVD.gain * scale) ** 2) / symbols
    torch.testing.assert_close(read.var(0)[:, -1], one, rtol=0.1, atol=0)
    for column in range(SVD.inputs):
        torch.testing.assert_close(read.var(0)[:, column], 2 * one / scale**2, rtol=0.1, atol=0)


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("layer", [SVD, BLOCKS, DIAGONAL])
def test_answers_are_differences_of_two_settings(layer: LayerDescription, shifters: Any) -> None:
    """They are not played one by one, which would take minutes; here they are."""
    settings = ChipSettings(**ERRORS, shifters=shifters, phase_bits=10)
    probe, phases = probed(layer, settings), phases_of(layer)
    probe.set(phases)
    answers = probe.measure_answers(symbols=1)
    for name, value in phases.items():
        attenuator = name in layer.attenuator_shapes
        shift = ATTENUATOR_SHIFT if attenuator else PHASE_SHIFT
        # A shifter on one arm turns by 2 theta: d/dx sin(2 x) = 2 cos(2 x).
        rate = 2 if name.endswith("theta") and shifters == "one_arm" else 1
        for d in range(value.numel()):
            step = torch.zeros(value.numel(), dtype=torch.float64)
            step[d] = shift
            read = []
            for sign in (1, -1):
                probe.set({**phases, name: value + sign * step.reshape(value.shape)})
                read.append(probe.measure(symbols=1)[0])
            difference = rate * (read[0] - read[1]) / (2 * math.sin(rate * shift))
            torch.testing.assert_close(answers[name][0, d].double(), difference, atol=2e-6, rtol=0)


def test_crosstalk_is_read_as_neighbours_feel_it() -> None:
    """Every setting is then played by itself, and the answers differ from those without it."""
    phases = phases_of(SVD)
    found = []
    for share in (0.0, 0.05):
        probe = probed(SVD, ChipSettings(**ERRORS, crosstalk=share))
        probe.set(phases)
        found.append(probe.measure_answers(symbols=1)["left.theta"])
    assert 1e-3 < (found[0] - found[1]).abs().max() < 0.5


def test_an_attenuator_that_is_nearly_dark_has_no_answer() -> None:
    probe = probed(SVD, ChipSettings(**ERRORS, noise=0.01))
    phases = phases_of(SVD)
    phases["attenuation"][0, 1] = ATTENUATOR_SHIFT / 2
    probe.set(phases)
    answers = probe.measure_answers(symbols=1)["attenuation"][0]
    assert (answers[1] == 0).all()
    assert (answers[[0, 2]] != 0).all()


def test_settings_readings_and_symbols_are_counted() -> None:
    probe = probed(SVD, ChipSettings())
    probe.set(phases_of(SVD))
    probe.measure(symbols=10)
    # Two inputs and none, at three detectors.
    assert probe.count == Count(settings=1, readings=9, symbols=30)
    probe.measure_answers(symbols=10)
    meshes, attenuators = 2 * (3 + 3 + 3), 3
    settings = 2 * (meshes + attenuators)
    symbols = 2 * 30 * (meshes + ATTENUATOR_PATIENCE * attenuators)
    assert probe.count == Count(1 + settings, 9 * (1 + settings), 30 + symbols)


def test_detectors_without_sign_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.chip\.detection=homodyne"):
        probed(SVD, ChipSettings(detection="direct"))


def test_steps_are_those_of_the_shifters() -> None:
    """2 pi / 2^bits, and half of it where the shifter turns by twice the setting."""
    step = 2 * math.pi / 256
    one_arm = ChipSettings(shifters="one_arm", phase_bits=8)
    assert grid(SVD, ChipSettings()) is None
    assert grid(SVD, ChipSettings(phase_bits=8)) == {
        name: step / 2 if name == "attenuation" else step for name in SVD.settings
    }
    halved = {"left.theta", "right.theta", "attenuation"}
    assert grid(SVD, one_arm) == {n: step / 2 if n in halved else step for n in SVD.settings}
    phases = phases_of(SVD)
    played = [
        play(SVD, given, draw_errors(SVD, one_arm, Draws(0, 1), index=0), shifters="one_arm")
        for given in (phases, on_grid(phases, SVD, one_arm))
    ]
    # Attenuators make up for the phase that their setting brings, not for rounding.
    assert (played[0].weight - played[1].weight).abs().max() < step * SVD.gain * 2


def test_a_quiet_chip_has_the_design_and_no_errors() -> None:
    noisy = ChipSettings(**ERRORS, shifters="one_arm", bias="attenuator", noise=0.1)
    assert quiet(noisy) == ChipSettings(shifters="one_arm", bias="attenuator")


def test_noise_of_detectors_grows_with_what_the_layer_loses() -> None:
    """As on the chip: a detector behind 20 dB has ten times the thermal noise, of the outputs."""
    sigmas = []
    for loss in (0.0, 20.0 / SVD.parts.optical_depth):
        lossy = ChipSettings(mzi_loss=loss, laser_power=-20.0, thermal_noise=10.0)
        probe = probed(SVD, lossy, chips=4000)
        probe.set(phases_of(SVD))
        sigmas.append(probe.measure(symbols=1)[..., -1].std(0))
    torch.testing.assert_close(sigmas[1], 10 * sigmas[0], rtol=0.1, atol=0)
