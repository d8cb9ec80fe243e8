"""Blind calibration brings unknown chips to their weights, on small meshes with known answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.calibration.blind import Blind, BlindTask, Move, with_quiet_meshes
from optinc.onn.chip.calibration.probe import ProbedLayer, on_grid
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.layer_factors import LayerDescription, factor
from optinc.onn.mesh_settings import map_onn, transfer_matrix
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.decomposition import decompose

TARGET: dict[str, Any] = {"coupler_error": 0.02, "phase_error": 0.003, "mzi_loss_spread": 0.02}
NOISE: dict[str, Any] = {"noise": 0.005, "receiver_noise": 0.005}


def small_task(
    settings: ChipSettings, *, outputs: int = 4, inputs: int = 3, approximated: bool = False
) -> tuple[LayerDescription, BlindTask]:
    """A random layer with headroom, and the task to play it."""
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs)
    if approximated:
        linear.weight.data = 0.5 * torch.linalg.qr(torch.randn(outputs, outputs))[0]
    factors = factor(linear, approximated=approximated, bias="port")
    layer = factors.layer
    layer = LayerDescription(**{**vars(layer), "gain": 1.1 * layer.gain})
    design = {n: torch.asin(v / 1.1).unsqueeze(0) for n, v in factors.attenuations.items()}
    for mesh, unitary in factors.unitaries.items():
        phases = decompose(unitary, shifters=settings.shifters)
        for name, value in (
            ("theta", phases.theta_BE),
            ("phi", phases.phi_BE),
            ("output", phases.output_Bn),
        ):
            design[f"{mesh}.{name}"] = value.unsqueeze(0)
    design = {name: design[name] for name in layer.settings}
    target = torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1).detach().double()
    seen = torch.eye(inputs + 1, dtype=torch.float64)
    return layer, BlindTask(layer, settings, target, seen, design)


def probe_of(layer: LayerDescription, settings: ChipSettings, *, chip: int = 0) -> ProbedLayer:
    errors = draw_errors(layer, settings, Draws(settings.seed, 1, chip), index=0)
    generator = torch.Generator().manual_seed(chip)
    return ProbedLayer(layer, errors, settings, scale=1.0, generator=generator)


def lacking(layer: LayerDescription, task: BlindTask, settings: ChipSettings, at: Any) -> float:
    """Norm of what the weights of a chip lack at given settings, read without noise."""
    silent = ChipSettings(
        **{n: getattr(settings, n) for n in (*TARGET, "phase_bits", "shifters", "seed")}
    )
    probe = probe_of(layer, silent)
    probe.set(at)
    return float(task.lacking(probe.measure(symbols=1)).norm())


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("approximated", [False, True])
def test_an_unknown_layer_is_brought_to_its_weights(shifters: Any, approximated: bool) -> None:
    """Without noise and with continuous phases the transfer is restored, at 5 % coupler errors.

    A Sigma U layer has hardly more settings than weights, and keeps some of what losses differ by.
    """
    settings = ChipSettings(**{**TARGET, "coupler_error": 0.05}, shifters=shifters)
    layer, task = small_task(settings, inputs=4 if approximated else 3, approximated=approximated)
    before = lacking(layer, task, settings, task.design)
    found = Blind().calibrate_layer(probe_of(layer, settings), task)
    after = lacking(layer, task, settings, found)
    assert before > (0.008 if approximated else 0.04)
    assert after < (5e-4 if approximated else 1e-9)


def test_noise_is_averaged_out() -> None:
    """Readings of 2^16 symbols at 0.5 % are good to about 3e-5 of a weight; far fewer are not."""
    settings = ChipSettings(**TARGET, **NOISE)
    layer, task = small_task(settings)
    left = {
        symbols: lacking(
            layer,
            task,
            settings,
            Blind(symbols=symbols).calibrate_layer(probe_of(layer, settings), task),
        )
        for symbols in (1, 1 << 16)
    }
    assert left[1 << 16] < 3e-4
    assert left[1] > 10 * left[1 << 16]


def test_steps_of_dacs_are_made_up_for() -> None:
    """With 8 bits, what is left is less than rounding the phases of ideal parts leaves."""
    settings = ChipSettings(**TARGET, **NOISE, phase_bits=8)
    layer, task = small_task(settings)
    found = Blind().calibrate_layer(probe_of(layer, settings), task)
    for name, value in on_grid(found, layer, settings).items():
        torch.testing.assert_close(found[name], value, atol=1e-12, rtol=0)
    ideal = ChipSettings(phase_bits=8)
    rounded = lacking(layer, task, ideal, task.design)
    assert lacking(layer, task, settings, found) < rounded / 2


class BlackBox:
    """A 2 x 2 orthogonal layer of one real MZI, simulated with sines alone; no code of ours.

    Its weights are amplitudes behind one MZI with an offset of its phase and unequal gains, which
    one attenuator an output makes up for.
    """

    def __init__(self) -> None:
        self.phases: dict[str, Tensor] = {}
        self.settings = 0

    def weights(self, phases: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        theta = float(phases["blocks2.theta"].flatten()[0]) + 0.04
        phi = float(phases["blocks2.phi"].flatten()[0]) - 0.03
        out = np.exp(1j * (phases["blocks2.output"].numpy().flatten() + np.array([0.02, -0.05])))
        passed = np.sin(phases["blocks2.attenuation"].numpy().flatten()) * [0.97, 0.99]
        bias = np.sin(phases["bias"].numpy().flatten()) * [1.02, 0.96]
        turn = np.array([[np.exp(1j * phi), 0], [0, 1]])
        mix = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
        weight = passed[:, None] * out[:, None] * (mix @ turn)
        return 1.1 * np.column_stack([weight.real, bias])

    def set(self, phases: Mapping[str, Tensor]) -> None:
        self.phases = dict(phases)

    def measure(self, *, symbols: int) -> Tensor:
        self.settings += 1
        return torch.from_numpy(self.weights(self.phases))[None]

    def measure_answers(self, *, symbols: int) -> dict[str, Tensor]:
        found = {}
        for name, value in self.phases.items():
            rows = []
            for d in range(value.numel()):
                step = torch.zeros(value.numel(), dtype=torch.float64)
                step[d] = 0.1
                later, before = (
                    self.weights({**self.phases, name: value + sign * step.reshape(value.shape)})
                    for sign in (1, -1)
                )
                rows.append((later - before) / (2 * math.sin(0.1)))
            found[name] = torch.from_numpy(np.stack(rows))[None].float()
        return found


def test_a_black_box_is_calibrated_by_what_it_shows() -> None:
    """The procedure sees an object that is no chip of ours, with errors it cannot look up."""
    layer = LayerDescription("sigma_u", 2, 2, bias="attenuator", gain=1.1, reference=1.0)
    angle = 0.7
    weight = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    target = torch.cat([0.8 * weight, torch.tensor([[0.3], [-0.5]]).double()], dim=1)
    mesh = decompose(weight.unsqueeze(0))
    design = {
        "blocks2.attenuation": torch.full((1, 1, 2), math.asin(0.8 / 1.1)).double(),
        "bias": torch.asin(target[:, 2] / 1.1).unsqueeze(0),
        "blocks2.theta": mesh.theta_BE.unsqueeze(0),
        "blocks2.phi": mesh.phi_BE.unsqueeze(0),
        "blocks2.output": mesh.output_Bn.unsqueeze(0),
    }
    design = {name: design[name] for name in layer.settings}
    box = BlackBox()
    task = BlindTask(layer, ChipSettings(), target, torch.eye(3, dtype=torch.float64), design)
    assert np.abs(box.weights(design) - target.numpy()).max() > 0.02
    blind = Blind()
    found = blind.calibrate_layer(box, task)
    assert np.abs(box.weights(found) - target.numpy()).max() < 2e-3
    # Each move and the last look are one setting; answers come besides.
    assert box.settings == blind.coarse + len(blind.damping) * blind.moves + 1


def test_rounding_is_made_up_for_as_well_as_the_best_of_all_roundings() -> None:
    """Babai's nearest plane against all 5^4 roundings near the minimum: at most 1.5 times off."""
    generator = torch.Generator().manual_seed(1)
    ratios, naive_ratios = [], []
    for _ in range(20):
        answers = torch.randn(4, 6, generator=generator)
        lack = 0.5 * torch.randn(6, generator=generator)
        step = torch.full((4,), 0.3, dtype=torch.float64)
        move = Move(answers, step, torch.zeros(4, dtype=torch.float64), 1e-6)
        found = move.moved(torch.zeros(4, dtype=torch.float64), lack)

        def left(at: Tensor, answers: Tensor = answers, lack: Tensor = lack) -> float:
            return float((lack - at.float() @ answers).norm())

        best = torch.linalg.lstsq(answers.mT, lack.unsqueeze(1)).solution[:, 0].double()
        near = torch.round(best / step)
        every = [
            left((near + torch.tensor(offset)) * step)
            for offset in itertools.product((-2, -1, 0, 1, 2), repeat=4)
        ]
        torch.testing.assert_close(found / step, torch.round(found / step))
        ratios.append(left(found) / min(every))
        naive_ratios.append(left(near * step) / min(every))
    assert max(ratios) < 1.5
    assert sum(ratios) < sum(naive_ratios)


def test_attenuators_keep_their_sign_and_stop_where_they_are_open() -> None:
    sign = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    move = Move(torch.eye(3), None, sign, 1e-9)
    at = torch.tensor([0.1, -1.5, 1.5], dtype=torch.float64)
    moved = move.moved(at, torch.tensor([-1.0, -1.0, 1.0]))
    expected = torch.tensor([0.0, -math.pi / 2, 2.5], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_quiet_meshes_play_the_same_weights(shifters: Any) -> None:
    onn = zoo.load_named("b8_n4_half_even_smallest")
    mapped = map_onn(onn, shifters=shifters)
    quiet = with_quiet_meshes(mapped)
    for i in range(len(mapped.layers)):
        same = transfer_matrix(quiet, i), transfer_matrix(mapped, i)
        torch.testing.assert_close(*same, atol=1e-10, rtol=0)


def test_quiet_meshes_bear_leaking_couplers_better() -> None:
    """What couplers leak is not detected where all phases are 0 or pi."""
    onn = zoo.load_named("b8_n4_half_even_robust")
    settings = ChipSettings(coupler_error=0.01)
    mapped = map_onn(onn)
    right = [
        float(chip_accuracy(ChipNetwork.draw(onn, settings, programme=each)).mean())
        for each in (mapped, with_quiet_meshes(mapped))
    ]
    assert right[1] > right[0] + 0.2


def test_a_chip_is_calibrated_alike_alone_and_among_others() -> None:
    onn = zoo.load_named("b8_n4_half_even_smallest")
    settings = ChipSettings(**TARGET, **NOISE, phase_bits=12)
    blind = Blind(coarse=3, damping=(0.01,))
    programme = blind.programme(onn, settings)
    both = blind.calibrate(onn, programme, settings, Draws(0, 2))
    alone = blind.calibrate(onn, programme, settings, Draws(0, 1, 1))
    for together, own in zip(both.phases, alone.phases, strict=True):
        for name in own:
            assert torch.equal(together[name][1:], own[name])
    assert both.measures["symbols"][0] == both.measures["symbols"][1]
    # A move and a last look each, and twice the phases of meshes and their attenuators.
    meshes = [layer for layer in programme.layers if layer.mesh_shapes]
    phases = sum(math.prod(s) for layer in meshes for s in layer.settings.values())
    moves = 4 * len(programme.layers) + 2 * len(meshes)
    assert alone.measures["settings"][0] == moves + 2 * phases


@pytest.mark.slow
def test_a_blind_chip_of_the_target_receives_9999_of_10000_inputs() -> None:
    """Chip 0 of ``robust``: 2 % couplers, 0.003 rad, 10 bits, 0.02 dB, 0.5 % noise."""
    onn = zoo.load_named("b8_n4_half_even_robust")
    settings = ChipSettings(**TARGET, **NOISE, phase_bits=10, shifters="one_arm", bias="attenuator")
    blind = Blind()
    programme = blind.programme(onn, settings)
    found = blind.calibrate(onn, programme, settings, Draws(0, 1))
    own = programme.with_phases(found.phases, seed=0)
    assert chip_accuracy(ChipNetwork.draw(onn, settings, programme=own)) >= 0.9999


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"symbols": 0}, "calibration.symbols"),
        ({"coarse": -1}, "calibration.coarse"),
        ({"moves": 0}, "calibration.moves"),
        ({"seed": -1}, "calibration.seed"),
        ({"damping": [0.0]}, "calibration.damping"),
        ({"coarse": 0, "damping": []}, "move nothing"),
        ({"chips": 0}, "calibration.chips"),
    ],
)
def test_impossible_procedures_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Blind(**given)
