"""ONNs on drawn crossbars: ideal ones, each effect against a closed form, and what they bear.

Covers: optinc.onn.chip.crossbar
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip import network as network_module
from optinc.onn.chip.crossbar import IntensityTransfer, sent_intensities
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.servers import Servers
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.dataset import samples_of_index
from optinc.onn.mesh_settings import map_onn
from optinc.onn.network import OpticalNetwork
from optinc.onn.zoo import load_named, names
from optinc.photonics.chip_settings import ChipSettings, Detection
from optinc.photonics.parts.units import ELEMENTARY_CHARGE
from optinc.signal.scenario import Scenario

FORMS = pytest.mark.parametrize("detection", ["homodyne", "direct"])
ROBUST, SMALLEST = "b8_n4_half_even_robust", "b8_n4_half_even_smallest"

load = cache(load_named)


def draw(name: str, *, chips: int = 1, **settings: Any) -> ChipNetwork:
    return ChipNetwork.draw(load(name), ChipSettings(hardware="crossbar", **settings), chips=chips)


def right(name: str, *, chips: int = 1, **settings: Any) -> float:
    """The worst chip's share of all inputs received right, in %."""
    return 100 * float(chip_accuracy(draw(name, chips=chips, **settings)).min())


def some_averages(onn: ONNArtifact, count: int) -> Tensor:
    scenario = onn.card.scenario
    drawn = torch.randint(
        scenario.combinations, (count,), generator=torch.Generator().manual_seed(0)
    )
    return samples_of_index(drawn, scenario).averages_PK


# An ideal chip.


def test_every_shipped_onn_plays_exactly_on_ideal_crossbars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Full scales take most of the time, and nothing of an ideal chip depends on them.
    monkeypatch.setattr(network_module, "uncentred_scales", lambda *_: [1.0] * 100)
    for name in names():
        onn = load_named(name)
        averages = some_averages(onn, 256)
        expected = onn.network(averages)
        for detection in ("homodyne", "direct"):
            chip = ChipNetwork.draw(onn, ChipSettings(hardware="crossbar", detection=detection))
            played = chip(averages)[0]
            # float32 sums of another order; a level is 1 apart.
            torch.testing.assert_close(played, expected, rtol=0, atol=2e-3, msg=name)
            assert chip.receive(played).equal(chip.receive(expected)), name
            assert not chip.dynamic
            assert not chip.needs_servers


@FORMS
@pytest.mark.parametrize("name", [ROBUST, SMALLEST])
def test_an_ideal_crossbar_receives_every_input_right(name: str, detection: Detection) -> None:
    losses = {"mzi_loss": 0.3, "splitter_loss": 0.2, "crossing_loss": 0.1}
    assert right(name, detection=detection) == 100
    assert right(name, detection=detection, **losses) == 100


# Static errors.


@FORMS
def test_chips_are_those_of_their_seed_and_number_and_grow_with_sigma(detection: Detection) -> None:
    settings = {"detection": detection, "phase_error": 0.02, "splitter_imbalance": 0.05}
    many, few = draw(SMALLEST, chips=3, **settings), draw(SMALLEST, chips=2, **settings)
    other = draw(SMALLEST, chips=2, **settings, seed=1)
    for a, b, c in zip(many.state_dict(), few.state_dict(), other.state_dict(), strict=True):
        values = [chip.state_dict()[key] for chip, key in ((many, a), (few, b), (other, c))]
        if a.endswith(("weight", "weight_Cmn")):
            assert values[0][:2].equal(values[1])
            assert not values[1].equal(values[2])
            assert not values[0][0].equal(values[0][1])


@pytest.mark.parametrize(("detection", "power"), [("homodyne", 1), ("direct", 2)])
@pytest.mark.parametrize("effect", ["attenuator_error", "splitter_imbalance", "mzi_loss_spread"])
def test_intensities_err_twice_as_much_as_amplitudes(
    effect: str, detection: Detection, power: int
) -> None:
    sigma = 0.001
    chip = draw(ROBUST, chips=20, detection=detection, **{effect: sigma})
    ideal = draw(ROBUST, detection=detection)
    # Layer 4: outputs of many inputs, whose attenuators are open.
    layer, exact = chip.layers[3], ideal.layers[3]
    weight = "weight_Cmn" if detection == "direct" else "weight"
    expected = getattr(exact, weight).real
    relative = (getattr(layer, weight).real / expected)[:, expected[0] != 0] - 1
    # An open attenuator passes half of each arm; a spread in dB is one of amplitudes.
    per_db = math.log(10) / 20
    spread = sigma * per_db / math.sqrt(2)
    if effect == "splitter_imbalance":
        # Trees: of 16 ways every leaf is behind 4 stages, each of which is off by half its ratio.
        assert 0.5 * power < float(relative.std()) / (sigma * per_db) < 3 * power
    else:
        of_effect = sigma if effect == "attenuator_error" else spread
        assert float(relative.std()) == pytest.approx(power * of_effect, rel=0.05)


@FORMS
def test_gain_and_bias_err_relative_to_their_settings(detection: Detection) -> None:
    ideal = draw(ROBUST, detection=detection)
    for effect, both in (("gain_error", True), ("bias_error", False)):
        chips = draw(ROBUST, chips=50, detection=detection, **{effect: 0.03})
        for layer, exact in zip(chips.layers, ideal.layers, strict=True):
            used = exact.bias_Cm.real.abs()[0] > 0
            relative = (layer.bias_Cm.real / exact.bias_Cm.real)[:, used] - 1
            assert float(relative.std()) == pytest.approx(0.03, rel=0.25)
            same = layer.state_dict().items()
            weight = next(value for key, value in same if key.startswith("weight"))
            untouched = next(
                value for key, value in exact.state_dict().items() if key.startswith("weight")
            )
            assert weight[0].equal(untouched[0]) != both


def test_open_attenuators_do_not_feel_phases_or_couplers_to_first_order() -> None:
    ideal = draw(ROBUST, detection="direct")
    for effect in ("phase_error", "coupler_error"):
        chips = draw(ROBUST, chips=20, detection="direct", **{effect: 1e-3})
        layer, exact = chips.layers[4], ideal.layers[4]  # one input an output: all open
        used = exact.weight_Cmn[0] != 0
        relative = (layer.weight_Cmn / exact.weight_Cmn)[:, used] - 1
        assert float(relative.abs().max()) < 30 * 1e-3**2
        bias = (layer.bias_Cm / exact.bias_Cm)[:, exact.bias_Cm[0] != 0] - 1
        assert float(bias.abs().max()) < 30 * 1e-3**2
        # Weights below the largest of their output lie on the slope: phases count there.
        layer, exact = chips.layers[12], ideal.layers[12]
        weight = exact.weight_Cmn[0]
        small = (weight != 0) & (weight.abs() < 0.9 * weight.abs().amax(1, keepdim=True))
        assert small.any()
        relative = (layer.weight_Cmn / exact.weight_Cmn)[:, small] - 1
        assert (float(relative.std()) > 1e-4) == (effect == "phase_error")


def test_the_phase_of_a_way_turns_the_field_and_leaves_its_cosine() -> None:
    sigma = 0.1
    chips = draw(ROBUST, chips=200, detection="homodyne", shifters="push_pull", phase_error=sigma)
    ideal = draw(ROBUST, detection="homodyne")
    layer, exact = chips.layers[4], ideal.layers[4]
    ratio = layer.weight / exact.weight
    # The way's own shifter, and what both arms have in common: sigma^2 (1 + 1 / 2).
    assert float(ratio.angle().std()) == pytest.approx(sigma * math.sqrt(1.5), rel=0.05)
    # Between the arms: cos((e1 - e2) / 2), of mean exp(-sigma^2 / 4).
    assert float(ratio.abs().mean()) == pytest.approx(math.exp(-(sigma**2) / 4), abs=1e-4)


# Noise.


def one_output(weights: list[float], bias: float, **settings: Any) -> ChipNetwork:
    """A chip of one crossbar of intensities [1, n], whose detector gets an eighth of the light."""
    scenario = Scenario(bits=2, servers=2, onn_inputs=1, rounding="floor")
    chip = ChipSettings(hardware="crossbar", detection="direct", **settings)
    network = OpticalNetwork(
        [len(weights), 1], input_scale=1.0, input_offset=0.0, output_scale=1.0, output_offset=0.0
    )
    weight = torch.tensor([[weights]])
    layer = IntensityTransfer(
        weight, torch.tensor([[bias]]), torch.tensor([[8.0]]), weight[0].sum(1)
    )
    return ChipNetwork(network, chip, Servers(chip, scenario, Draws(0, 1)), [layer], chips=1)


def repeated(chip: ChipNetwork, inputs: list[float], *, times: int = 20_000) -> Tensor:
    sent = torch.tensor([inputs]).expand(times, -1)
    return chip(sent, generator=torch.Generator().manual_seed(0))[0]


def test_currents_add_with_the_signs_of_their_diodes() -> None:
    chip = one_output([1.0, -2.0], 0.5)
    assert chip(torch.tensor([[2.0, 0.5]])).item() == pytest.approx(2.0 - 1.0 + 0.5)


def test_shot_noise_is_that_of_the_light_on_both_diodes() -> None:
    settings = {"laser_power": 0.0, "thermal_noise": 15.0, "responsivity": 0.8}
    received = repeated(one_output([1.0, -1.0], 0.5, **settings), [1.5, 1.5])
    # Full scale 3 leaves a modulator with 1 mW; 1.5 + 1.5 + 0.5 meet the diodes behind a gain of 8.
    unit, bandwidth = 3 * 8.0, 0.7 * 53.125e9
    current = 0.8 * 1e-3 * (1.5 + 1.5 + 0.5) / unit
    variance = (2 * ELEMENTARY_CHARGE * current + (15e-12) ** 2) * bandwidth
    assert float(received.mean()) == pytest.approx(0.5, abs=1e-2)
    assert float(received.std()) == pytest.approx(unit * math.sqrt(variance) / 0.8e-3, rel=0.03)


def test_intensity_noise_is_that_of_every_modulator_and_of_the_reference() -> None:
    received = repeated(one_output([1.0, -2.0], 3.0, rin=-140.0), [2.0, 1.0])
    sigma = math.sqrt(1e-14 * 0.7 * 53.125e9)
    expected = sigma * math.sqrt(2.0**2 + 2.0**2 + 3.0**2)
    assert float(received.std()) == pytest.approx(expected, rel=0.03)


def test_what_dark_modulators_leave_is_subtracted_and_costs_swing() -> None:
    assert right(SMALLEST, detection="direct", modulator_extinction=15.0) == 100
    ideal = draw(SMALLEST, detection="direct")
    layers = draw(SMALLEST, detection="direct", modulator_extinction=10.0).layers
    for layer, exact in zip(layers, ideal.layers, strict=True):
        torch.testing.assert_close(layer.gain_Cm, exact.gain_Cm / 0.9)


# Effects of electronics and of servers.


def test_light_is_never_negative() -> None:
    signal = torch.tensor([-4.0, -0.4, 0.0, 2.0, 4.0])
    sent = sent_intensities(signal, dark=0.1, full_scale=4.0)
    torch.testing.assert_close(sent, torch.tensor([0.0, 0.04, 0.4, 2.2, 4.0]))


def test_what_a_relu_leaks_ends_at_the_modulators_of_intensities() -> None:
    assert right(ROBUST, detection="direct", relu_leak=30.0) == 100
    # Dark modulators of 15 dB leave room below them, so that the leak passes as with fields.
    leaking = {"relu_leak": 30.0, "modulator_extinction": 15.0}
    assert right(ROBUST, detection="direct", **leaking) < 50
    assert right(ROBUST, detection="homodyne", relu_leak=30.0) < 50


@FORMS
def test_servers_are_averaged_as_for_meshes(detection: Detection) -> None:
    codes = torch.randint(256, (4, 500), generator=torch.Generator().manual_seed(0))
    for settings in ({"server_phase": 0.1}, {"averaging": "incoherent", "server_imbalance": 0.02}):
        crossbar = draw(SMALLEST, detection=detection, **settings)
        mesh = ChipNetwork.draw(load(SMALLEST), ChipSettings(**settings))
        expected = mesh.receive(mesh.emit(codes))
        assert float((crossbar.receive(crossbar.emit(codes)) == expected).double().mean()) > 0.99


# What the robust ONN bears.


@FORMS
@pytest.mark.parametrize(
    "effect", [{"phase_error": 0.01}, {"coupler_error": 0.02}, {"phase_bits": 8}]
)
def test_robust_crossbars_of_the_targets_errors_receive_every_input_right(
    effect: dict[str, float], detection: Detection
) -> None:
    assert right(ROBUST, chips=10, detection=detection, **effect) >= 99.9


# Settings that do not fit.


def test_settings_of_other_hardware_or_another_form_of_light_are_refused() -> None:
    onn = load(SMALLEST)
    crossbar = ChipSettings(hardware="crossbar")
    with pytest.raises(ConfigurationError, match=r"hardware=crossbar, but .* those of a mesh"):
        ChipNetwork.draw(onn, crossbar, programme=map_onn(onn))
    with pytest.raises(ConfigurationError, match=r"hardware=mesh, but .* those of a crossbar"):
        ChipNetwork.draw(onn, ChipSettings(), programme=map_crossbar(onn))
    with pytest.raises(ConfigurationError, match=r"detection=homodyne, but .* are for direct"):
        ChipNetwork.draw(onn, crossbar, programme=map_crossbar(onn, detection="direct"))


def test_a_mode_that_skips_a_column_is_refused_without_a_mesh() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.chip\.skip_loss=0\.1 dB .* no mesh"):
        ChipSettings(hardware="crossbar", skip_loss=0.1)
