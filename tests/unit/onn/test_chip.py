"""ONNs on drawn chips: ideal ones, and each effect against a closed form.

Covers: optinc.onn.chip, optinc.onn.chip.accuracy, optinc.onn.chip.draws, optinc.onn.chip.errors,
    optinc.onn.chip.layers, optinc.onn.chip.network, optinc.onn.chip.scales, optinc.onn.chip.servers
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.chip.layers import LayerTransfer, draw_layer
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.chip.servers import Servers
from optinc.onn.dataset import samples_of_index
from optinc.onn.mesh_settings import MeshProgramme, map_onn, rebuild_network
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import full_scales
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import BiasForm, ChipSettings, Shifters
from optinc.photonics.parts.averaging import field_variance, mean_field
from optinc.photonics.parts.units import ELEMENTARY_CHARGE
from optinc.signal.preprocessing import preprocess
from optinc.signal.scenario import Scenario

SCENARIO = Scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")

load = cache(load_named)


@cache
def programme(
    name: str, shifters: Shifters = "push_pull", bias: BiasForm = "port"
) -> MeshProgramme:
    return map_onn(load(name), shifters=shifters, bias=bias)


def draw(name: str, *, chips: int = 1, **settings: Any) -> ChipNetwork:
    """Draw chips of an ONN of scenario 1."""
    full, chip = f"b8_n4_half_even_{name}", ChipSettings(**settings)
    meshes = programme(full, chip.shifters, chip.bias)
    return ChipNetwork.draw(load(full), chip, chips=chips, programme=meshes)


def some_codes(values: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (4, values), dtype=torch.int32, generator=generator)


def one_layer(
    weight: Tensor, *, gain: float = 1.0, offset: float = 0.0, **settings: Any
) -> ChipNetwork:
    """A chip of one layer [1, 4] that transmits a weight exactly."""
    scenario = Scenario(bits=2, servers=2, onn_inputs=1, rounding="floor")
    chip = ChipSettings(**settings)
    network = OpticalNetwork(
        [weight.shape[1], len(weight)],
        input_scale=1.0,
        input_offset=offset,
        output_scale=1.0,
        output_offset=0.0,
    )
    layer = LayerTransfer(
        weight.unsqueeze(0) + 0j,
        torch.zeros(1, len(weight)) + 0j,
        torch.full((1, len(weight)), gain),
    )
    servers = Servers(chip, scenario, Draws(0, 1))
    return ChipNetwork(network, chip, servers, [layer], chips=1)


def repeated(chip: ChipNetwork, inputs: list[float], *, times: int = 20_000) -> Tensor:
    """Send one input many times: outputs [times, m]."""
    sent = torch.tensor([inputs]).expand(times, -1)
    return chip(sent, generator=torch.Generator().manual_seed(0))[0]


# An ideal chip.


@pytest.mark.parametrize(
    "name", ["smallest", "robust", "all_layers", pytest.param("dense", marks=pytest.mark.slow)]
)
def test_an_ideal_chip_is_the_onn_its_meshes_play(name: str) -> None:
    onn, meshes = load(f"b8_n4_half_even_{name}"), programme(f"b8_n4_half_even_{name}")
    averages, _ = samples_of_index(torch.arange(0, 28_561, 7), SCENARIO)
    chip = ChipNetwork.draw(onn, ChipSettings(), programme=meshes)
    played = chip(averages)[0]
    expected = rebuild_network(meshes)(averages)
    torch.testing.assert_close(played, expected, rtol=0, atol=1e-5)
    # Weights in Sigma U form are in it to float32 rounding, which the meshes do not have.
    torch.testing.assert_close(played, onn.network(averages), rtol=0, atol=1e-4)
    assert not chip.dynamic
    assert not chip.needs_servers


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("bias", ["port", "attenuator"])
@pytest.mark.parametrize("name", ["smallest", "robust"])
def test_an_ideal_chip_receives_every_input_right(
    name: str, bias: BiasForm, shifters: Shifters
) -> None:
    assert chip_accuracy(draw(name, bias=bias, shifters=shifters)).tolist() == [1.0]


def test_codes_of_servers_reach_an_ideal_chip_as_their_average() -> None:
    chip, codes = draw("robust", chips=2), some_codes(500)
    assert chip.emit(codes).equal(chip(preprocess(codes, SCENARIO)))
    two = chip.emit(codes[:2])
    assert two.equal(chip(preprocess(codes[:2], SCENARIO)))
    received = chip.receive(chip.emit(codes))
    ideal = torch.round(codes.double().mean(0)).int()
    assert received.equal(ideal.expand(2, -1))


# Chips as draws.


def test_a_chip_depends_on_its_seed_and_number_alone() -> None:
    errors = {"coupler_error": 0.02, "phase_error": 0.01, "gain_error": 0.01}
    few, many = draw("smallest", chips=2, **errors), draw("smallest", chips=4, **errors)
    other = draw("smallest", chips=2, **errors, seed=1)
    for a, b, c in zip(few.layers, many.layers, other.layers, strict=True):
        assert a.weight.equal(b.weight[:2])
        assert not b.weight[0].equal(b.weight[1])
        assert not a.weight.equal(c.weight)


def test_an_effect_redraws_no_other_and_grows_with_its_sigma() -> None:
    alone = draw("robust", attenuator_error=0.01, bias="attenuator")
    twice = draw("robust", attenuator_error=0.02, bias="attenuator")
    with_others = draw("robust", attenuator_error=0.01, bias="attenuator", server_imbalance=0.1)
    ideal = draw("robust", bias="attenuator")
    diagonals = [i for i, layer in enumerate(ideal.layers) if layer.diagonal]
    assert len(diagonals) == 8
    for i in diagonals:
        exact = ideal.layers[i].weight
        torch.testing.assert_close(
            twice.layers[i].weight - exact,
            2 * (alone.layers[i].weight - exact),
            rtol=1e-3,
            atol=1e-5,
        )
        assert with_others.layers[i].weight.equal(alone.layers[i].weight)


def test_draws_are_standard_normal_and_differ_by_effect_place_chip_and_seed() -> None:
    draws = Draws(0, 2)
    first = draws.standard("phase_error", "here", (50_000,))
    assert abs(float(first.mean())) < 0.02
    assert float(first.std()) == pytest.approx(1.0, abs=0.01)
    others = [
        first[1],
        draws.standard("phase_error", "there", (50_000,))[0],
        draws.standard("gain_error", "here", (50_000,))[0],
        Draws(1, 1).standard("phase_error", "here", (50_000,))[0],
    ]
    for other in others:
        assert abs(float((first[0] * other).mean())) < 0.02
    assert (
        Draws(0, 1, first=1)
        .standard("phase_error", "here", (9,))[0]
        .equal(draws.standard("phase_error", "here", (9,))[1])
    )
    assert draws.errors("phase_error", "here", (9,), sigma=0.0) is None
    assert [(chunk.first, chunk.chips) for chunk in Draws(0, 5).chunks(2)] == [
        (0, 2),
        (2, 2),
        (4, 1),
    ]


# Static errors of a layer.


@pytest.mark.parametrize(
    ("effect", "part"),
    [("gain_error", "weight"), ("gain_error", "bias_Cm"), ("bias_error", "bias_Cm")],
)
def test_gain_and_bias_err_relative_to_their_settings(effect: str, part: str) -> None:
    chips = draw("smallest", chips=200, bias="attenuator", **{effect: 0.03})
    ideal = draw("smallest", bias="attenuator")
    for layer, exact in zip(chips.layers, ideal.layers, strict=True):
        expected = getattr(exact, part).real
        used = expected.abs()[0] > 1e-3
        relative = (getattr(layer, part).real / expected)[:, used] - 1
        if used.any():
            assert float(relative.std()) == pytest.approx(0.03, rel=0.2)
        assert layer.weight[0].equal(exact.weight[0]) == (effect == "bias_error")


def test_a_bias_port_has_one_beam_for_all_outputs() -> None:
    chips, ideal = draw("smallest", chips=3, bias_error=0.05), draw("smallest")
    for layer, exact in zip(chips.layers[:-1], ideal.layers, strict=False):
        used = exact.bias_Cm.real.abs()[0] > 1e-3
        relative = (layer.bias_Cm.real / exact.bias_Cm.real)[:, used]
        torch.testing.assert_close(relative, relative[:, :1].expand_as(relative), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["smallest", "robust", "all_layers"])
def test_mean_losses_are_made_up_for_by_gain(name: str) -> None:
    lossy, ideal = draw(name, mzi_loss=0.3, splitter_loss=0.2), draw(name)
    for a, b in zip(lossy.layers, ideal.layers, strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-4)
        torch.testing.assert_close(a.bias_Cm, b.bias_Cm, rtol=0, atol=1e-4)


def test_the_gain_is_that_of_the_mesh_settings_and_of_the_losses() -> None:
    lossy, settings = draw("robust", mzi_loss=0.3), programme("b8_n4_half_even_robust")
    for layer, described in zip(lossy.layers, settings.layers, strict=True):
        loss = 10 ** (0.3 * described.parts.optical_depth / 20)
        assert float(layer.gain_Cm[0, 0]) == pytest.approx(described.gain * loss, rel=1e-5)
    # Layer 1 of all_layers: inputs split 1:16, in four stages.
    split = layer_of("all_layers", 0, ChipSettings(splitter_loss=1.0), chips=1)
    described = programme("b8_n4_half_even_all_layers").layers[0]
    expected = described.gain * 10 ** (4 * 1.0 / 20)
    assert float(split.gain_Cm[0, 0]) == pytest.approx(expected, rel=1e-5)


def layer_of(name: str, index: int, settings: ChipSettings, *, chips: int) -> LayerTransfer:
    """Draw one layer of an ONN of scenario 1."""
    meshes = programme(f"b8_n4_half_even_{name}")
    return draw_layer(settings, Draws(0, chips), meshes, index)


def test_light_that_skips_columns_without_loss_upsets_the_weights() -> None:
    even, uneven = draw("smallest", mzi_loss=0.3), draw("smallest", mzi_loss=0.3, skip_loss=0.0)
    assert not torch.allclose(even.layers[1].weight, uneven.layers[1].weight, atol=0.1)


def test_splitters_of_blocks_divide_the_light_of_each_input_unevenly() -> None:
    # Layer 1 of all_layers: 16 blocks of 4 x 4 behind 1:16 splitters of 4 inputs.
    chips = layer_of("all_layers", 0, ChipSettings(splitter_imbalance=0.1), chips=50)
    ideal = layer_of("all_layers", 0, ChipSettings(), chips=1)
    ratio = (chips.weight.real / ideal.weight.real).unflatten(1, (16, 4))
    torch.testing.assert_close(ratio, ratio[:, :, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    # Passive: the powers of a splitter's outputs have the same sum.
    total = ratio[:, :, 0].square().mean(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-3, atol=1e-3)
    # Four stages, each off by half of 0.1 dB in one direction or the other.
    decibels = 20 * ratio[:, :, 0].log10()
    assert float(decibels.std()) == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("bias", ["attenuator", "port"])
def test_the_reference_beam_of_attenuators_is_divided_unevenly(bias: BiasForm) -> None:
    """Also where each output has its attenuator since the layer has no second mesh."""
    meshes = programme("b8_n4_half_even_robust", bias=bias)
    settings, divided = ChipSettings(splitter_imbalance=0.1), 0
    for index, layer in enumerate(meshes.layers):
        errors = draw_errors(layer, settings, Draws(0, 400), index=index)
        power = (1 + errors.beam).square()
        # Passive: the powers behind all stages have the same sum.
        torch.testing.assert_close(power.mean(-1), torch.ones(len(power)).double())
        if layer.bias == "port" or layer.outputs == 1:
            assert power.eq(1).all()
            continue
        divided += 1
        spread = 0.1 / 2 * math.sqrt(math.log2(layer.outputs))
        assert float((10 * power.log10()).std()) == pytest.approx(spread, rel=0.2)
        played = draw_layer(settings, Draws(0, 3), meshes, index)
        used = played.bias_Cm[0].abs() > 1e-3
        assert not used.any() or not played.bias_Cm[0, used].equal(played.bias_Cm[1, used])
    assert divided > 3


def test_combiners_weigh_the_blocks_of_each_output_unevenly() -> None:
    # 4 x 10: two blocks of 4 x 4 and a rest of 4 x 2, two blocks of 2 x 2; combined 3:1, split 1:2.
    settings = ChipSettings(splitter_imbalance=0.1)
    layer = replace(programme("b8_n4_half_even_all_layers").layers[0], outputs=4, inputs=10)
    relative = draw_errors(layer, settings, Draws(0, 400), index=0).imbalance_Cmn
    assert relative is not None
    first, second, rest = relative[..., :4], relative[..., 4:8], relative[..., 8:]
    for block in (first, second):
        assert block.equal(block[..., :1].expand_as(block))
    # Splitters of the rest share the light of each input evenly in the mean of both outputs.
    upper, lower = rest[:, :2], rest[:, 2:]
    combined = (3 - first[..., 0].square() - second[..., 0].square()).unsqueeze(-1)
    split = rest.square() / combined
    torch.testing.assert_close((split[:, :2] + split[:, 2:]) / 2, torch.ones_like(upper))
    assert not upper.equal(lower)
    # The stage 2:1 of the rest, off by 0.1 dB, gives it two thirds of them.
    decibels = 10 * combined.log10()
    assert float(decibels.std()) == pytest.approx(0.1 * 2 / 3, rel=0.1)


# Servers and unit P.


def averages(codes: Tensor, *, chips: int = 1, generator: Any = None, **settings: Any) -> Tensor:
    servers = Servers(ChipSettings(**settings), SCENARIO, Draws(0, chips))
    return servers.average(codes, generator=generator)


def test_an_uneven_server_weighs_more_in_the_average() -> None:
    codes = some_codes(50)
    relative = 1 + 0.1 * Draws(0, 3).standard("server_imbalance", "servers", (4, 1, 1))
    symbols = torch.stack([codes >> shift & 3 for shift in (6, 4, 2, 0)], dim=-1)
    expected = (relative * symbols).mean(1).float()
    found = averages(codes, chips=3, server_imbalance=0.1)
    torch.testing.assert_close(found.real, expected)
    assert found.imag.abs().max() == 0
    # Intensities: twice the error.
    squared = averages(codes, chips=3, server_imbalance=0.1, averaging="incoherent")
    torch.testing.assert_close(squared, (relative.square() * symbols).mean(1).float())


def test_light_of_servers_adds_with_its_phases_or_as_intensities() -> None:
    codes = some_codes(50)
    phases = 0.3 * Draws(0, 2).standard("server_phase", "servers", (4, 1, 1))
    symbols = torch.stack([codes >> shift & 3 for shift in (6, 4, 2, 0)], dim=-1)
    expected = (torch.polar(torch.ones_like(phases), phases) * symbols).mean(1)
    found = averages(codes, chips=2, server_phase=0.3)
    torch.testing.assert_close(found, expected.to(torch.complex64))
    # Intensities have no phases: averages decide, also where amplitudes differ.
    blind = averages(codes, chips=2, server_phase=0.3, averaging="incoherent")
    torch.testing.assert_close(blind, preprocess(codes, SCENARIO).unsqueeze(0))
    uneven = {"server_imbalance": 0.1, "averaging": "incoherent", "chips": 2}
    with_phases = averages(codes, server_phase=0.3, **uneven)
    torch.testing.assert_close(with_phases, averages(codes, **uneven))


def test_drifting_phases_weaken_and_scatter_the_mean_field() -> None:
    codes = torch.full((4, 40_000), 255, dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    field = averages(codes, generator=generator, phase_drift=0.4)[0, :, 0] / 3
    assert float(field.real.mean()) == pytest.approx(mean_field(0.4), abs=2e-3)
    variance = float(field.real.var() + field.imag.var())
    assert variance == pytest.approx(field_variance(0.4, servers=4), rel=0.03)
    free = averages(codes, generator=generator, phase_drift=math.inf)[0, :, 0]
    assert float(free.mean().abs()) < 0.02


def test_levels_and_extinction_are_those_of_each_transmitter() -> None:
    codes = some_codes(2000)
    off = averages(codes, chips=200, level_error=0.02).real - preprocess(codes, SCENARIO)
    # Of full scale 3, averaged over four servers; a full level cannot be exceeded.
    assert 0.75 < float(off.std()) / (0.02 * 3 / 2) < 1.0
    dark = averages(torch.zeros(4, 1, dtype=torch.int32), modulator_extinction=20.0)
    torch.testing.assert_close(dark, torch.full((1, 1, 4), 0.3j, dtype=torch.complex64))


def test_a_late_server_mixes_a_symbol_with_a_random_neighbour() -> None:
    delay = (0.2 * Draws(0, 1).standard("timing_skew", "servers", (4,)))[0].abs()
    codes = torch.full((4, 40_000), 255, dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    field = averages(codes, generator=generator, timing_skew=0.2)[0, :, 0].real
    assert float(field.mean()) == pytest.approx(float(3 - 1.5 * delay.mean()), abs=0.01)
    # Four equally likely levels have a variance of 1.25.
    expected = 1.25 * float(delay.square().sum()) / 16
    assert float(field.var()) == pytest.approx(expected, rel=0.05)


def test_averages_do_not_decide_where_servers_differ() -> None:
    chip = draw("smallest", server_imbalance=0.01)
    assert chip.needs_servers
    assert not chip.dynamic
    with pytest.raises(ValueError, match=r"give emit\(\) the servers' codes"):
        chip(torch.zeros(1, 4))
    assert draw("smallest", phase_drift=0.1).dynamic
    assert draw("smallest", timing_skew=0.1).dynamic
    assert draw("smallest", server_phase=0.1).dynamic is False


# Detection and electronics.


def test_direct_detection_takes_the_sign_from_every_layer() -> None:
    weight = torch.tensor([[1.0, -2.0]])
    chip = one_layer(weight, detection="direct")
    torch.testing.assert_close(chip(torch.tensor([[1.0, 1.0]]))[0], torch.tensor([[1.0]]))
    # The ONNs rely on it: at most 1.2 % of the inputs are right with |x| in place of ReLU.
    for name in ("smallest", "robust"):
        assert float(chip_accuracy(draw(name, detection="direct"))) < 0.012


def test_homodyne_detection_keeps_the_real_part_of_the_field() -> None:
    chip = one_layer(torch.tensor([[1.0, -2.0]]))
    chip.layers[0].weight = chip.layers[0].weight + 5j
    torch.testing.assert_close(chip(torch.tensor([[1.0, 1.0]]))[0], torch.tensor([[-1.0]]))


def test_noise_is_a_share_of_the_uncentred_full_scale() -> None:
    # Layer 1 gets A - 2.5, but light of up to A = 3.
    chip = one_layer(torch.tensor([[1.0, -2.0]]), offset=-2.5, noise=0.01)
    assert float(repeated(chip, [1.0, 1.0]).std()) == pytest.approx(0.03 * 5**0.5, rel=0.03)
    onn = load("b8_n4_half_even_robust")
    centred, uncentred = full_scales(onn.network, SCENARIO), uncentred_scales(onn.network, SCENARIO)
    assert centred[1:] == pytest.approx(uncentred[1:])
    assert (centred[0], uncentred[0]) == (6.0, 12.0)


def test_receivers_have_noise_of_their_own() -> None:
    chip = one_layer(torch.tensor([[1.0]]), receiver_noise=0.02)
    assert chip.dynamic
    assert float(repeated(chip, [1.0]).std()) == pytest.approx(0.06, rel=0.03)


def test_intensity_noise_is_a_share_of_the_light_and_of_its_reference() -> None:
    chip = one_layer(torch.tensor([[1.0, -2.0]]), offset=-2.0, rin=-140.0)
    sigma = math.sqrt(1e-14 * 0.7 * 53.125e9)
    # Light of amplitude 2 and 1; both are centred by a reference of 2, whose noise adds.
    expected = sigma * math.sqrt((4 + 4) + 4 * (1 + 4))
    assert float(repeated(chip, [2.0, 1.0]).std()) == pytest.approx(expected, rel=0.03)


def test_shot_and_thermal_noise_follow_from_the_power_at_the_detector() -> None:
    gain, responsivity, oscillator, power, bandwidth = 8.0, 0.8, 1e-2, 1e-3, 0.7 * 53.125e9
    chip = one_layer(
        torch.tensor([[1.0]]),
        gain=gain,
        laser_power=0.0,
        local_oscillator=10.0,
        responsivity=responsivity,
        thermal_noise=15.0,
    )
    # Full scale 3 leaves the modulator with 1 mW; the output 1.5 is 1.5 / (3 * 8) of it.
    light = power * (1.5 / (3 * gain)) ** 2
    shot = 2 * ELEMENTARY_CHARGE * responsivity * (oscillator + light) * bandwidth
    thermal = (15e-12) ** 2 * bandwidth
    current = 2 * responsivity * math.sqrt(oscillator * power)
    expected = 3 * gain * math.sqrt(shot + thermal) / current
    assert float(repeated(chip, [1.5]).std()) == pytest.approx(expected, rel=0.03)


def test_light_of_a_directly_detected_layer_has_noise_in_its_intensity() -> None:
    chip = one_layer(
        torch.tensor([[1.0]]), gain=2.0, laser_power=0.0, thermal_noise=15.0, detection="direct"
    )
    light = 1e-3 * (2.0 / 6) ** 2
    variance = (2 * ELEMENTARY_CHARGE * light + (15e-12) ** 2) * 0.7 * 53.125e9
    # y = 6 sqrt(I / 1 mW): dy = 3 dI / sqrt(I 1 mW)
    expected = 3 * math.sqrt(variance / (light * 1e-3))
    assert float(repeated(chip, [2.0]).std()) == pytest.approx(expected, rel=0.03)


def test_a_dark_modulator_leaks_into_the_quadrature_that_is_not_read() -> None:
    ideal, leaky = draw("smallest"), draw("smallest", modulator_extinction=20.0)
    codes = some_codes(200)
    torch.testing.assert_close(leaky.emit(codes), ideal.emit(codes), rtol=0, atol=1e-3)
    turned = {"modulator_extinction": 20.0, "phase_error": 0.003, "bias": "attenuator"}
    assert not leaky.emit(codes).equal(draw("smallest", **turned).emit(codes))


@pytest.mark.parametrize(
    ("name", "settings", "right"),
    [
        ("smallest", {"relu_knee": 0.03}, 13),
        ("robust", {"relu_knee": 0.03}, 100),
        ("robust", {"relu_leak": 40.0}, 44),
    ],
)
def test_the_electronic_relu_is_borne_as_estimated(
    name: str, settings: dict[str, float], right: float
) -> None:
    assert 100 * float(chip_accuracy(draw(name, **settings))) == pytest.approx(right, abs=2)


def test_the_same_generator_draws_the_same_noise() -> None:
    chip, codes = draw("smallest", noise=0.01, timing_skew=0.05, chips=2), some_codes(100)
    first = chip.emit(codes, generator=torch.Generator().manual_seed(3))
    again = chip.emit(codes, generator=torch.Generator().manual_seed(3))
    other = chip.emit(codes, generator=torch.Generator().manual_seed(4))
    assert first.equal(again)
    assert not first.equal(other)
    assert not first[0].equal(first[1])


def test_accuracy_counts_every_repetition() -> None:
    chip = draw("smallest", noise=0.003)
    once, again = chip_accuracy(chip, repeats=1), chip_accuracy(chip, repeats=3)
    assert once.shape == (1,)
    assert float(once) == pytest.approx(float(again), abs=0.01)
    assert float(once) != float(again)


# What is refused.


def test_settings_of_meshes_must_be_those_of_the_chip() -> None:
    onn, meshes = load("b8_n4_half_even_smallest"), programme("b8_n4_half_even_smallest")
    with pytest.raises(
        ConfigurationError, match=r"optinc\.chip\.shifters=one_arm, but .* push_pull"
    ):
        ChipNetwork.draw(onn, ChipSettings(shifters="one_arm"), programme=meshes)
    with pytest.raises(ConfigurationError, match=r"optinc\.chip\.bias=attenuator, but .* port"):
        ChipNetwork.draw(onn, ChipSettings(bias="attenuator"), programme=meshes)
    with pytest.raises(ConfigurationError, match="another ONN"):
        ChipNetwork.draw(load("b8_n4_floor_smallest"), ChipSettings(), programme=meshes)
    with pytest.raises(ConfigurationError, match="at least 1, got 0"):
        ChipNetwork.draw(onn, ChipSettings(), chips=0)


def test_the_accuracy_of_a_switch_with_too_many_inputs_is_refused() -> None:
    large = Scenario(bits=16, servers=16, onn_inputs=4, rounding="floor")
    chip = one_layer(torch.ones(1, 1))
    chip.scenario = large
    with pytest.raises(ConfigurationError, match=f"has {large.combinations}, more than"):
        chip_accuracy(chip)
