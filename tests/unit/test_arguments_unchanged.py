"""Public functions leave their tensor arguments as they are, unless the docstring says otherwise.

Every public function, and every public method outside ``reducers``, that takes tensors, meshes or
networks needs a call in :func:`calls`: a new one without it fails here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from optinc.onn import (
    analog_cascade,
    approximation,
    artifact,
    crossbar_settings,
    dataset,
    evaluation,
    growing,
    importing,
    layer_factors,
    mesh_settings,
    server_symbols,
    truth_table,
    zoo,
)
from optinc.onn import noise as onn_noise
from optinc.onn.chip import ChipNetwork, chip_accuracy, detection, errors, layers
from optinc.onn.chip import crossbar as chip_crossbar
from optinc.onn.chip.calibration import base as calibration_base
from optinc.onn.chip.calibration import blind, correction, jacobian, probe, reoptimise
from optinc.onn.chip.calibration import inputs as calibration_inputs
from optinc.onn.chip.calibration.known import KnownErrors
from optinc.onn.chip.comparators import Comparators, comparators_of
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.chip.scales import uncentred_scale, uncentred_scales
from optinc.onn.chip.servers import Servers
from optinc.onn.construction import proof
from optinc.onn.construction import values as construction_values
from optinc.onn.construction.base import Construction
from optinc.onn.construction.restoring import Restoring
from optinc.onn.construction.smallest import Smallest
from optinc.onn.netlist import layer_netlist
from optinc.onn.network import OpticalNetwork
from optinc.onn.outcome_table import OutcomeTable, tabulate_outcomes
from optinc.onn.training import evaluated, gauss_newton, losses, one_switch, optimizers
from optinc.onn.training.drawn_chips import FreshChips
from optinc.onn.zoo.families import CascadeONNs, load_onns
from optinc.photonics import crossbar, decomposition, imperfect_mesh, mzi, netlist
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import (
    attenuator,
    averaging,
    coupler,
    electronics,
    modulator,
    phase_shifter,
    photodetector,
    receiver,
    splitter,
)
from optinc.photonics.parts import mzi as mzi_part
from optinc.reducers import blocks as reducer_blocks
from optinc.reducers import exact, nonfinite
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels import cpu, cpu_plan, injected, reference
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.reducers.measures import error, signal_terms
from optinc.reducers.measures.accounting import Accounting
from optinc.reducers.partwise import Part
from optinc.reducers.senders import nonfinite as sender_nonfinite
from optinc.reducers.senders import parts as sender_parts
from optinc.reducers.senders.senders import Senders
from optinc.reducers.wire import packing
from optinc.reducers.wire import scales as scales_module
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal import bfloat16, outputs, pam4, preprocessing, randomness, rotation, rounding
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import Scenario, make_scenario
from optinc.signal.tree import Tree, make_tree
from optinc.switches import cascade, chip, direct, error_injection, outcomes, single

PACKAGES = ("signal", "photonics", "onn", "switches", "reducers")
KINDS = re.compile(
    r"Tensor|MeshPhases|MeshProgramme|Crossbar(Layer|Programme)|nn\.|Network|LightningModule"
)
"""Annotations of parameters that hold tensors."""

WRITTEN = re.compile(
    r"in place|overwritten|, changed\.|^Write |trained in place|Step all optimisers"
)
"""Words by which a docstring says that an argument is written to."""

KERNELS = {
    "reduce": {"out_P"},
    "pack": {"packed_G"},
    "play": {"received_S"},
    "receive": {"buffer_V"},
}
"""Results of the kernels, which ``Backend`` describes."""

LEFT_OUT = {
    # They need processes, a GPU or a trainer; tests of their own look at what they write.
    "optinc.reducers.kernels.cuda",
    "optinc.reducers.kernels.cuda_programs",
    "optinc.reducers.kernels.cpu_loops",
    "optinc.onn.training.cascade.CascadeTraining.training_step",
}


def described(function: Any) -> bool:
    """Whether a parameter of a function holds tensors."""
    parameters = inspect.signature(function).parameters.values()
    return any(KINDS.search(str(parameter.annotation)) for parameter in parameters)


def public() -> Iterator[str]:
    """Yield the full names of all public functions and methods that take tensors."""
    for package in PACKAGES:
        root = importlib.import_module(f"optinc.{package}")
        names = [m.name for m in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")]
        for module in map(importlib.import_module, [n for n in names if n not in LEFT_OUT]):
            for name, found in vars(module).items():
                if name.startswith("_") or getattr(found, "__module__", "") != module.__name__:
                    continue
                full = f"{module.__name__}.{name}"
                if inspect.isfunction(found) and described(found):
                    yield full
                elif inspect.isclass(found) and package != "reducers":
                    yield from methods(found, full)


def methods(kind: type, full: str) -> Iterator[str]:
    """Yield the full names of a class's own public methods that take tensors."""
    for name, found in vars(kind).items():
        method = found.__func__ if isinstance(found, staticmethod | classmethod) else found
        if (
            (not name.startswith("_") or name == "__call__")
            and inspect.isfunction(method)
            and not getattr(method, "__isabstractmethod__", False)
            and described(method)
            and f"{full}.{name}" not in LEFT_OUT
        ):
            yield f"{full}.{name}"


@dataclass
class Call:
    """A function with arguments that it takes."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Call:
    return Call(function, arguments, options)


def name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


@cache
def scenario() -> Scenario:
    return make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="half_even")


@cache
def tree() -> Tree:
    found = make_tree(
        bits=8,
        servers=16,
        onn_inputs="auto",
        rounding="half_even",
        fan_in=4,
        depth=2,
        quantize="top",
        analog_levels=4**6,
    )
    assert isinstance(found, Tree)
    return found


def network() -> OpticalNetwork:
    torch.manual_seed(0)
    scales = {"input_scale": 1.0, "input_offset": 0.0, "output_scale": 1.0, "output_offset": 0.0}
    return OpticalNetwork([2, 8, 2], **scales)


def unitary() -> Tensor:
    # As the elimination works on it: no copy is made by the way.
    return torch.linalg.qr(torch.randn(1, 5, 5, dtype=torch.complex128))[0].contiguous()


def signal_calls() -> Iterator[Call]:
    codes, quantizer = torch.randint(0, 16, (2, 9), dtype=torch.int32), BlockQuantizer(bits=4)
    symbols, amplitudes = pam4.encode(codes, symbols=2), 3 * torch.rand(2, 9, 2)
    gradients = torch.randn(2, 9)
    scales = quantizer.scales(gradients)
    yield call(BlockQuantizer.scales, quantizer, gradients)
    yield call(BlockQuantizer.encode, quantizer, gradients, scales)
    yield call(BlockQuantizer.decode, quantizer, codes[0], scales)
    yield call(bfloat16.round_up, scales)
    yield call(bfloat16.round_up_bits, scales.view(torch.int32))
    yield call(outputs.ideal_average, codes, scenario())
    yield call(outputs.average_of_total, codes.sum(0), scenario())
    words = torch.arange(5)
    yield call(randomness.philox, (words, words, words, words), (1, 2))
    yield call(randomness.random_bits, words, seed=1, reduction=2)
    yield call(randomness.uniforms, words, 8, seed=1, reduction=2, stream=3)
    values, drawn = torch.randn(2, 9), torch.rand(9)
    yield call(rounding.round_at_random, values, drawn)
    yield call(rotation.hadamard, torch.randn(3, 8))
    turned = rotation.BlockRotation(4)
    yield call(rotation.BlockRotation.rotate, turned, values.clone(), reduction=1, first=4)
    yield call(rotation.BlockRotation.undo, turned, values.clone(), reduction=1, first=4)
    yield call(outputs.outputs_of_total, codes.sum(0), scenario())
    yield call(outputs.value_of_outputs, symbols, scenario())
    yield call(outputs.steps_of, scenario(), like=amplitudes)
    yield call(outputs.receive, amplitudes, scenario())
    yield call(outputs.threshold_margin, amplitudes, symbols, scenario())
    yield call(pam4.encode, codes, symbols=2)
    yield call(pam4.decode, symbols)
    yield call(pam4.receive, amplitudes)
    yield call(pam4.threshold_margin, amplitudes, symbols)
    merged = preprocessing.merge(symbols, scenario())
    yield call(preprocessing.merge, symbols, scenario())
    yield call(preprocessing.average, merged, servers=2)
    yield call(preprocessing.average_signals, amplitudes, scenario())
    yield call(preprocessing.preprocess, codes, scenario())
    yield call(preprocessing.inputs_of_values, codes, scenario())
    yield call(preprocessing.sums_of_index, torch.arange(49), scenario())
    yield call(preprocessing.code_total, merged.sum(0).long(), scenario())
    yield call(rounding.round_to_integer, torch.randn(9), "half_up")
    yield call(rounding.quantized_average, codes.sum(0), servers=2, rounding="half_even")


def photonics_calls() -> Iterator[Call]:
    phases = decomposition.decompose(unitary())
    yield call(decomposition.decompose, unitary())
    yield call(decomposition.rebuild, phases)
    yield call(decomposition.propagate, unitary(), phases)
    yield call(netlist.mesh_netlist, phases)
    one_arm = decomposition.translate(phases, "one_arm")
    yield call(decomposition.translate, phases, "one_arm")
    yield call(decomposition.translate, one_arm, "push_pull")
    yield call(decomposition.rebuild, one_arm)
    angles = torch.rand(1, 2, dtype=torch.float64)
    yield call(mzi.matrix, angles, angles.clone())
    yield call(mzi.mix, unitary(), mzi.mesh_columns(5)[0], angles, angles.clone())
    meshes = imperfect_mesh.MeshErrors(
        couplers_CBE2=torch.rand(2, 1, 10, 2).double(), crosstalk=0.1
    )
    field = unitary().expand(2, -1, -1, -1).contiguous()
    yield call(imperfect_mesh.propagate, field, phases, meshes)
    yield call(imperfect_mesh.attenuate, angles, imperfect_mesh.MeshErrors(phase_bits=4))
    attenuators = crossbar.AttenuatorErrors(couplers_CA2=torch.rand(2, 2, 2).double())
    yield call(crossbar.transmit, angles[0].clone(), attenuators, shifters="one_arm")
    yield call(crossbar.settings_of, torch.rand(3), intensities=True)
    yield call(crossbar.uneven_tree, torch.rand(3), torch.rand(2, 2))
    yield from light_calls()
    yield from electronic_calls()


def light_calls() -> Iterator[Call]:
    angles, pairs = 7 * torch.rand(3, 4), torch.rand(3, 4, 2)
    normal, field = torch.randn(3, 4), torch.randn(3, 4, dtype=torch.complex64)
    yield call(coupler.matrix, angles)
    yield call(coupler.cross_power, angles)
    yield call(coupler.Coupler.angles, coupler.Coupler(error=0.1), normal)
    shifter = phase_shifter.PhaseShifter(error=0.1, bits=4, crosstalk=0.01)
    yield call(phase_shifter.PhaseShifter.played, shifter, angles, normal)
    yield call(phase_shifter.quantize, angles, bits=3)
    yield call(phase_shifter.add_crosstalk, angles, share=0.1)
    yield call(phase_shifter.shift, field, angles)
    yield call(mzi_part.arm_phases, angles, shifters="one_arm")
    yield call(mzi_part.arm_amplitudes, pairs, extinction=20.0)
    errors = {"coupler_angles_2": pairs, "arm_amplitudes_2": pairs.clone()}
    yield call(mzi_part.transfer, pairs.clone(), angles, shifters="push_pull", **errors)
    yield call(mzi_part.matrix, angles, angles.clone(), shifters="one_arm", **errors)
    part = attenuator.Attenuator(error=0.1)
    yield call(attenuator.Attenuator.transmission, part, torch.rand(4), normal)
    yield call(attenuator.mzi_transmission, torch.rand(4), normal)
    tree = splitter.Splitter(ways=5, imbalance=0.1)
    yield call(splitter.Splitter.amplitudes, tree, normal)
    yield call(splitter.split, field, torch.rand(5))
    yield call(splitter.combine, field, torch.rand(4))
    yield call(averaging.residual_phases, normal, sigma=0.1)
    yield call(averaging.residual_phases, normal, sigma=float("inf"))
    yield call(averaging.coherent_average, field, angles)
    yield call(averaging.intensity_field, angles)
    yield call(averaging.incoherent_average, field)
    yield call(averaging.skewed, normal, angles, torch.rand(4))


def electronic_calls() -> Iterator[Call]:
    normal, field = torch.randn(3, 4), torch.randn(3, 4, dtype=torch.complex64)
    part = modulator.Modulator(extinction=20.0, level_error=0.1)
    yield call(modulator.Modulator.levels, part, normal)
    yield call(modulator.Modulator.modulate, part, torch.rand(3, 4))
    yield call(photodetector.direct_current, field, responsivity=1.0)
    yield call(photodetector.homodyne_current, field, local_oscillator=1.0, responsivity=1.0)
    yield call(photodetector.shot_variance, normal, bandwidth=1.0)
    yield call(photodetector.rin_variance, normal, rin=-150.0, bandwidth=1.0)
    detector = photodetector.Photodetector(rin=-150.0, rejection=20.0)
    yield call(photodetector.Photodetector.noise, detector, normal, full_scale=torch.rand(3, 1))
    options = {"gain": torch.rand(4), "errors": normal.clone(), "noise": normal.clone()}
    yield call(electronics.Gain.amplify, electronics.Gain(error=0.1), normal, **options)
    yield call(electronics.ReLU.rectify, electronics.ReLU(knee=0.1), normal)
    yield call(electronics.soft_relu, normal, knee=torch.rand(4), leak=20.0)
    yield call(receiver.decide, normal, levels=4)
    yield call(receiver.symbol_error, torch.rand(3, 4), levels=4)


def onn_calls(folder: Path) -> Iterator[Call]:
    index, learned = torch.arange(49), network()
    samples = dataset.samples_of_index(index, scenario())
    sums, margin = preprocessing.sums_of_index(index, scenario()), torch.rand(49)
    yield call(dataset.samples_of_index, index, scenario())
    yield call(dataset.samples_of_sums, sums, scenario())
    hard = evaluation.HardInputs(below=0.5, limit=10)
    yield call(evaluation.HardInputs.add, hard, index, margin)
    yield call(evaluation.Tally.add, evaluation.Tally(), margin, index)
    yield call(evaluation.evaluate, learned, scenario())
    yield call(evaluation.evaluate_exhaustively, learned, scenario())
    plain = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    design = one_switch.ONNDesign(scenario(), (2, 8, 2), (1,))
    yield call(importing.import_network, plain, design=design, project=True)
    yield call(importing.fitting_rounding, learned, scenario(), wrong=49)
    yield call(evaluation.evaluate_sampled, learned, scenario(), samples=64)
    yield call(OpticalNetwork.forward, learned, samples.averages_PK)
    yield call(growing.grow, learned, [2, 8, 16, 8, 2])
    yield call(onn_noise.noisy_forward, learned, samples.averages_PK, noise=0.1)
    yield call(onn_noise.full_scales, learned, scenario())
    yield call(onn_noise.noisy_accuracy, learned, scenario(), noise=0.1)
    yield call(truth_table.TruthTable.counted, torch.zeros(49, dtype=torch.int32), scenario())
    yield call(truth_table.tabulate, learned, scenario(), path=folder / "table.safetensors")
    weight = torch.randn(4, 8)
    (blocks,) = approximation.blocks_by_size(4, 8).values()
    taken = approximation.take_blocks(weight, blocks)
    yield call(approximation.take_blocks, weight, blocks)
    yield call(approximation.put_blocks, weight, blocks, taken)
    yield call(approximation.factorize, taken)
    yield call(approximation.approximate, weight)
    yield call(approximation.approximation_error, weight)
    yield call(approximation.project_layers, learned.linears, [1])
    yield call(approximation.layers_in_form, learned.linears)
    projected = network()
    approximation.project_layers(projected.linears, [1])
    yield call(approximation.check_form, projected.linears, [1])
    design = one_switch.ONNDesign(scenario(), learned.structure, (1,))
    yield call(
        artifact.save_artifact,
        folder / "onn",
        network=projected,
        design=design,
        evaluation=evaluation.evaluate_exhaustively(projected, scenario()),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="none",
    )
    onn = zoo.load_named("b8_n4_floor_smallest")
    programme = mesh_settings.map_onn(onn)
    yield call(mesh_settings.check_rebuilt, programme, onn.network)
    yield call(mesh_settings.rebuild_network, programme)
    yield call(mesh_settings.transfer_matrix, programme, 0)
    yield call(layer_netlist, programme, 0)
    yield from crossbar_calls(onn)
    yield from chip_calls(
        onn, programme, averages=torch.rand(3, 4), codes=torch.arange(8).view(4, 2)
    )
    for linear, approximated in zip(projected.linears, (True, False), strict=False):
        yield call(approximation.layer_form, linear.weight, approximated=approximated)
        yield call(layer_factors.factor, linear, approximated=approximated, bias="port")
    yield call(one_switch.ONNDesign.of_network, learned, scenario())
    layers = [(torch.randn(2, 2).double(), torch.randn(2).double())]
    yield call(construction_values.assemble, layers, scenario())
    restoring, proved = Restoring(), Scenario(bits=6, servers=4, onn_inputs=3, rounding="floor")
    restored, _ = restoring.build(proved)
    yield call(proof.prove, restored, proved, lookahead=False)
    yield call(restoring.prove, restored, proved)
    yield call(Construction.prove, Smallest(), restored, proved)
    sums = torch.randint(7, (9, 2))
    yield call(server_symbols.draw_codes, sums, scenario())
    yield from training_calls(samples)
    yield from calls_through_chips(samples.averages_PK)
    yield from cascade_calls()


def crossbar_calls(onn: artifact.ONNArtifact) -> Iterator[Call]:
    mapped = crossbar_settings.map_crossbar(onn, detection="direct")
    yield call(crossbar_settings.rebuild_crossbar, mapped)
    rebuilt = crossbar_settings.rebuild_crossbar(mapped)
    yield call(mesh_settings.check_same, rebuilt, onn.network, built_of="crossbars")
    layer = mapped.layers[0]
    yield call(chip_crossbar.divided_light, layer)
    yield call(chip_crossbar.tree_stages, layer, intensities=True)
    settings = ChipSettings(hardware="crossbar", detection="direct", phase_error=0.01)
    yield call(chip_crossbar.draw_crossbars, settings, Draws(0, 2), mapped)
    drawn = chip_crossbar.draw_crossbars(settings, Draws(0, 1), mapped)[0]
    assert isinstance(drawn, chip_crossbar.IntensityTransfer)
    light = torch.rand(3, layer.inputs)
    reference = torch.rand(3, 1)
    yield call(drawn.currents, light, chip=0, reference=reference, dark=0.1)
    yield call(drawn.lit, light, chip=0)
    yield call(chip_crossbar.sent_intensities, light, dark=0.1, full_scale=2.0)


def chip_calls(
    onn: artifact.ONNArtifact,
    programme: mesh_settings.MeshProgramme,
    *,
    averages: torch.Tensor,
    codes: torch.Tensor,
) -> Iterator[Call]:
    settings = ChipSettings(coupler_error=0.01, noise=0.01)
    yield call(ChipNetwork.draw, onn, settings, chips=2, programme=programme)
    chips = ChipNetwork.draw(onn, settings, chips=2, programme=programme)
    yield call(ChipNetwork.forward, chips, averages)
    yield call(ChipNetwork.play, chips, averages.unsqueeze(0))
    yield call(ChipNetwork.emit, chips, codes)
    yield call(ChipNetwork.receive, chips, 3 * torch.rand(2, 5, 4))
    yield call(chip_accuracy, chips)
    quiet = ChipNetwork.draw(onn, ChipSettings(), programme=programme)
    yield call(tabulate_outcomes, quiet, repetitions=1)
    yield call(uncentred_scale, onn.network, onn.card.scenario)
    yield call(uncentred_scales, onn.network, onn.card.scenario)
    yield from blind_calls(onn, programme)
    yield from calibration_calls(onn, programme)
    drawn = Servers(ChipSettings(phase_drift=0.1, timing_skew=0.1), onn.card.scenario, Draws(0, 2))
    yield call(Servers.average, drawn, codes)
    receivers = DirectReceivers.draw(onn.card.scenario, settings, chips=2)
    yield call(DirectReceivers.forward, receivers, averages)
    yield call(DirectReceivers.play, receivers, averages.unsqueeze(0))
    yield call(DirectReceivers.emit, receivers, codes)
    yield call(DirectReceivers.receive, receivers, 3 * torch.rand(2, 5, 4))
    restoring = zoo.load_named("b8_n4_half_even_robust").network
    yield call(comparators_of, restoring)
    yield call(Comparators.decide, comparators_of(restoring)[0], torch.randn(5, 43))
    unit, noisy = torch.ones(4), ChipSettings(laser_power=0.0)
    yield call(detection.normal, averages, None)
    yield call(
        detection.with_detector_noise,
        torch.rand(5, 4),
        unit,
        detection.detected_variance(noisy),
        settings=noisy,
        generator=None,
    )


def blind_calls(
    onn: artifact.ONNArtifact, programme: mesh_settings.MeshProgramme
) -> Iterator[Call]:
    settings, draws = ChipSettings(phase_bits=10), Draws(0, 1)
    layer, phases = programme.layers[0], programme.layer_phases(0)
    errors, one = draw_errors(layer, settings, draws, index=0), torch.Generator().manual_seed(0)
    probed = probe.ProbedLayer(layer, errors, settings, scale=1.0, generator=one)
    yield call(probe.ProbedLayer, layer, errors, settings, scale=1.0, generator=one)
    yield call(probe.ProbedLayer.set, probed, phases)
    yield call(probe.on_grid, phases, layer, settings)
    weight = torch.randn(layer.outputs, layer.inputs + 1).double()
    seen = torch.eye(layer.inputs + 1, dtype=torch.float64)
    task = blind.BlindTask(layer, settings, weight, seen, phases)
    probed.set(phases)
    at, measured = torch.cat([value.flatten() for value in phases.values()]), weight[None] / 2
    answers = probed.measure_answers(symbols=1)
    yield call(blind.BlindTask.by_name, task, at)
    yield call(blind.BlindTask.lacking, task, measured)
    yield call(blind.BlindTask.move, task, answers, 0.1)
    yield call(blind.Move.moved, task.move(answers, 0.1), at, task.lacking(measured))
    yield call(blind.with_quiet_meshes, programme)
    how = blind.Blind(coarse=1, damping=())
    yield call(blind.Blind.calibrate, how, onn, programme, settings, draws)


def calibration_calls(
    onn: artifact.ONNArtifact, programme: mesh_settings.MeshProgramme
) -> Iterator[Call]:
    layer, phases = programme.layers[0], programme.layer_phases(0)
    settings, how = ChipSettings(coupler_error=0.01), KnownErrors(reoptimisation=None)
    drawn = errors.draw_errors(layer, settings, Draws(0, 2), index=0)
    inputs = calibration_inputs.seen_inputs(onn.network, onn.card.scenario, noise=0.01)
    yield call(calibration_inputs.seen_inputs, onn.network, onn.card.scenario, noise=0.01)
    yield call(errors.LayerErrors.map, drawn, torch.clone)
    yield call(errors.LayerErrors.of_chips, drawn, 0, 1)
    yield call(layers.draw_layer, settings, Draws(0, 2), programme, 0)
    yield call(layers.play, layer, phases, drawn, shifters="push_pull")
    mesh = decomposition.MeshPhases(
        *(phases[f"right.{name}"] for name in ("theta", "phi", "output")), shifters="push_pull"
    )
    yield call(correction.correct_mesh, mesh, drawn.parts["right"])
    yield call(
        correction.correct_attenuators,
        phases["attenuation"][None].sin(),
        drawn.parts["attenuation"],
    )
    yield call(correction.correct_layer, layer, phases, drawn, shifters="push_pull")
    corrected = correction.correct_layer(layer, phases, drawn, shifters="push_pull")
    yield call(jacobian.answers, layer, corrected, drawn, inputs[0], shifters="push_pull")
    weight = torch.cat([onn.network.linears[0].weight, onn.network.linears[0].bias[:, None]], 1)
    task = reoptimise.LayerTask(
        layer=layer,
        errors=drawn,
        target_mq=weight.detach().double() @ inputs[0],
        inputs_nq=inputs[0],
        shifters="push_pull",
        phase_bits=8,
    )
    yield call(reoptimise.LayerTask.steps, task, corrected)
    yield call(reoptimise.reoptimise, task, corrected, reoptimise.GaussNewton(steps=1))
    own = [
        {
            name: value.expand(2, *value.shape[1:])
            for name, value in programme.layer_phases(i).items()
        }
        for i in range(len(programme.layers))
    ]
    yield call(mesh_settings.MeshProgramme.with_phases, programme, own, seed=0)
    yield call(calibration_base.with_headroom, programme, 0.1)
    yield call(KnownErrors.calibrate, how, onn, programme, settings, Draws(0, 2))
    yield call(KnownErrors.calibrate_layer, how, task, phases)
    yield call(imperfect_mesh.output_phases, mesh, drawn.parts["right"])
    yield call(imperfect_mesh.over_arms, mesh, drawn.parts["right"], slice(0, 2))
    field, matrix = torch.rand(2, 1, 3, 4) + 0j, torch.rand(2, 1, 1, 2, 2) + 0j
    yield call(imperfect_mesh.mix, field, matrix, 1, skip=0.5)


def training_calls(samples: dataset.Samples) -> Iterator[Call]:
    outputs_PM = torch.randn(49, 2)
    paper = losses.PaperLoss(first_stage_epochs=1, symbol_weights="positional")
    steps = torch.ones(2)
    for loss in (paper, losses.MarginLoss(tolerance=0.3)):
        kind = type(loss)
        yield call(kind.__call__, loss, outputs_PM, samples.symbols_PM, epoch=0, steps_M=steps)
    yield call(losses.PaperLoss.weights, paper, outputs_PM)
    yield call(optimizers.make_optimizers, network(), "muon", learning_rate=1e-3)
    trained = network()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    module = SimpleNamespace(
        optimizers=lambda: optimizer,
        lr_schedulers=lambda: torch.optim.lr_scheduler.ConstantLR(optimizer),
        manual_backward=lambda value: value.backward(),
    )
    yield call(one_switch.take_step, module, trained(samples.averages_PK).sum())
    design = one_switch.ONNDesign(scenario(), trained.structure, (1,))
    for kind in (evaluated.EvaluatedTraining, one_switch.ONNTraining):
        yield call(kind.project, SimpleNamespace(design=design, _lit={}), network())
    start_R = torch.zeros(5, dtype=torch.float64)
    wanted = gauss_newton.Wanted(
        samples.averages_PK[:5],
        output_R=torch.tensor([0, 1, 0, 1, 0]),
        sign_R=torch.ones(5),
        continued_R=torch.ones(5, dtype=torch.bool),
    )
    yield call(gauss_newton.OutputGradients, network(), wanted, [2])
    gradients = gauss_newton.OutputGradients(network(), wanted, ())
    yield call(gauss_newton.OutputGradients.columns, gradients, torch.tensor([3, 1]))
    asked_R = torch.full_like(start_R, 0.1)
    shares = gauss_newton.smallest_shares
    yield call(shares, gradients, asked_R, damping=0.1, start_R=start_R)
    yield call(gauss_newton.OutputGradients.apply, gradients, asked_R)


def calls_through_chips(averages: torch.Tensor) -> Iterator[Call]:
    own = network()
    design = one_switch.ONNDesign(scenario(), own.structure, ())
    yield call(artifact.unstored, own, design)
    chips = FreshChips(
        ChipSettings(coupler_error=0.01, noise=0.01),
        design=design,
        chips=1,
        mapping_interval=1,
        seed=0,
    )
    yield call(FreshChips.set_meshes, chips, own, step=0)
    yield call(FreshChips.draw, chips, own, averages, step=0)
    yield call(FreshChips.play, chips, own, averages, step=0)


def cascade_calls() -> Iterator[Call]:
    onns = load_onns(onns="smallest", scenario=tree())
    assert isinstance(onns, CascadeONNs)
    networks = [onn.network for onn in onns.levels]
    codes = torch.randint(0, 256, (16, 9), dtype=torch.int32)
    analog = analog_cascade.AnalogCascade(networks, tree())
    signals = pam4.encode(codes, symbols=4).float()
    yield call(analog_cascade.propagate, networks, tree().levels, signals)
    yield call(analog_cascade.AnalogCascade.__call__, analog, codes)
    yield call(analog_cascade.AnalogCascade.signals, analog, codes)
    yield call(analog_cascade.respond, networks[0], tree().levels[0])
    yield call(analog_cascade.evaluate_cascade, analog, iter([codes]), total=9)
    for switch in (
        cascade.IdealCascade(tree()),
        cascade.TableCascade(onns),
        cascade.ONNCascade(onns),
        direct.direct_switch(tree(), chip=ChipSettings(noise=0.01), play="per_value"),
    ):
        yield call(type(switch).forward, switch, codes)
    yield call(cascade.average_by_levels, codes, tree(), lambda values, level: values.sum(0))


def switch_calls() -> Iterator[Call]:
    codes = torch.randint(0, 256, (4, 9), dtype=torch.int32)
    onn = zoo.load_named("b8_n4_floor_smallest")
    errors = error_injection.ErrorDistribution(rate=0.5, values={1: 1.0})
    ideal = single.IdealSwitch(onn.card.scenario)
    for switch in (
        ideal,
        single.TableSwitch(onn),
        single.ONNSwitch(onn, noise=0.01),
        error_injection.ErrorInjectionSwitch(onn.card.scenario, errors=errors),
    ):
        yield call(type(switch).forward, switch, codes)
    yield call(single.OpticalSwitch.count_errors, single.ONNSwitch(onn), codes, ideal(codes))
    settings = ChipSettings(noise=0.01)
    drawn = ChipNetwork.draw(onn, settings)
    per_value = chip.ChipSwitch(drawn, cards=(onn.card,), settings=chip.played(settings), seed=0)
    yield call(chip.ChipSwitch.forward, per_value, codes)
    small = scenario()
    index = torch.arange(small.combinations, dtype=torch.int32)
    rows = torch.arange(2 * small.combinations) // 2 << small.bits
    keys = rows + torch.arange(2).repeat(small.combinations)
    table = OutcomeTable(small, keys, torch.tensor([2, 1]).repeat(small.combinations), 3)
    drawn_codes = outcomes.Outcomes(table, seed=0)
    yield call(outcomes.Outcomes.receive, drawn_codes, index, reduction=0, first=0)
    yield call(outcomes.Outcomes.expected_errors, drawn_codes, index)
    tabulated = chip.ChipTableSwitch(table, cards=(onn.card,), settings={}, seed=0)
    few = torch.zeros(small.servers, 5, dtype=torch.int32)
    yield call(single.TabulatedSwitch.forward, tabulated, few)
    yield call(single.TabulatedSwitch.expected_errors, tabulated, few)
    yield call(single.OpticalSwitch.expected_errors, ideal, codes)


def reducer_calls() -> Iterator[Call]:
    quantizer = BlockQuantizer(bits=8, block_size=4)
    rule = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    plan = ReductionPlan(quantizer, single.IdealSwitch(rule), 4)
    gradients, scales = torch.randn(4, 9), torch.rand(3)
    bits = reducer_blocks.bits_of(scales)
    yield call(reducer_blocks.bits_of, scales)
    yield call(cpu_plan.draws_of, plan, reduction=0, padding=torch.arange(3))
    yield call(reducer_blocks.scales_of, bits)
    yield call(reducer_blocks.quantized_signals, gradients, quantizer)
    yield call(exact.squared_norms, gradients, gradients[0].clone(), finite=True)
    yield call(exact.exact_mean, gradients)
    for kernel in (cpu, reference):
        table, packed = BlockTable([Place(0, 0, 9)], block_size=4), torch.zeros(12).byte()
        found = reference.scale_bits(gradients[0], table, plan)
        yield call(kernel.reduce, gradients, torch.empty(9), plan)
        yield call(kernel.scale_bits, gradients[0], table, plan)
        yield call(kernel.pack, gradients[0], found, table, packed, plan)
        sent, runs = torch.zeros(4, 4).byte(), table.runs(0, 4)
        yield call(kernel.play, sent, torch.zeros(4).byte(), runs, plan)
        yield call(kernel.receive, packed.clone(), found.clone(), table, torch.empty(9), plan)
    errs = error_injection.ErrorDistribution(rate=0.5, values={1: 1.0})
    wrong = replace(plan, switch=error_injection.ErrorInjectionSwitch(rule, errors=errs))
    yield call(injected.drawn, wrong, [(0, 9)], reduction=0, padding=torch.arange(3))
    yield call(injected.reduce, reference.reduce, gradients, torch.empty(9), wrong)
    yield call(injected.play, reference.play, sent, torch.zeros(4).byte(), runs, wrong)
    yield call(error_injection.ErrorInjectionSwitch.err, wrong.switch, *torch.ones(2, 3).int())
    yield call(packing.pack, torch.arange(8), bits=4)
    comparing = mock.create_autospec(ServerGroup, instance=True)
    yield call(scales_module.share_scales, bits.clone(), quantizer, comparing)
    part = Part(torch.randn(9), table)
    sending = Senders(quantizer, error_feedback=True, rotation="hadamard")
    prepared = sender_parts.prepared(sending, part, None, reduction=0)
    yield call(sender_parts.prepared, sending, part, None, reduction=0)
    yield call(sender_parts.settle, sending, prepared, scales, part, None, reduction=0, server=0)
    keeps = {"reduction": 0, "keeps_nonfinite": True}
    yield call(sender_parts.give_back, sending, prepared.clone(), part, None, **keeps)
    yield call(packing.unpack, torch.arange(8).byte(), bits=4)
    yield call(error.add_error, Accounting(), gradients, gradients[0].clone())
    yield call(error.sample, gradients[0], distance=1)
    yield call(error.sampled_error, gradients[1][None], gradients[0], distance=1)
    yield call(signal_terms.error_terms, gradients[0], gradients[1])
    terms = signal_terms.error_terms(gradients[0], gradients[1])
    totals = torch.zeros(1, len(terms), dtype=torch.float64)
    yield call(signal_terms.add_terms, totals, terms, [slice(0, 9)], first=0, column=0)
    yield call(nonfinite.is_finite, gradients)
    bad = gradients.clone()
    bad[2, 3] = torch.nan
    yield call(nonfinite.first_nonfinite, bad)
    group = mock.create_autospec(ServerGroup, instance=True)
    group.size = 4
    yield call(error.mean_of_samples, gradients[0], group, distance=1)
    group.gather_objects.side_effect = lambda found: [found]
    yield call(nonfinite.first_nonfinite_of, bad[2], group)
    scale_bits = reference.scale_bits(bad[2], table, plan)
    block = sender_nonfinite.first_nonfinite_block(bad[2], scale_bits, table)
    yield call(sender_nonfinite.first_nonfinite_block, bad[2], scale_bits, table)
    yield call(sender_nonfinite.first_nonfinite_of_parts, [Part(bad[2], table)], [block], group)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """A call of every public function that takes tensors."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("calls")
    parts = (signal_calls(), photonics_calls(), onn_calls(folder), switch_calls(), reducer_calls())
    return [one for part in parts for one in part]


def test_every_public_function_has_a_call(calls: list[Call]) -> None:
    named = {name_of(one.function) for one in calls}
    assert not set(public()) - named, "add calls of these above"


def snapshot(value: Any) -> Any:
    """Copy all tensors in a value, by where they are in it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, nn.Module):
        return {name: tensor.clone() for name, tensor in value.state_dict().items()}
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {spec.name: snapshot(getattr(value, spec.name)) for spec in fields(value)}
    return None


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(one.element_size())
        if one.dtype.is_complex or bits is None:
            return torch.equal(one, other)
        return torch.equal(one.view(bits), other.view(bits))
    if isinstance(one, dict):
        return all(equal(item, other[key]) for key, item in one.items())
    if isinstance(one, list):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    return True


def may_write(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a docstring says, in its summary or beside the parameter, that it is written to."""
    if "kernels" in function.__module__:
        return parameter in KERNELS.get(function.__name__, ())
    text = inspect.getdoc(function) or ""
    summary = text.split("\n\n")[0]
    entry = re.search(rf"^ +{parameter}: (.*(?:\n +.*)*?)(?=\n +\w+: |\n\n|\Z)", text, re.MULTILINE)
    beside = entry.group(1) if entry is not None else ""
    # What a method does to its own object is what it is for.
    return parameter == "self" or bool(WRITTEN.search(summary) or WRITTEN.search(beside))


def test_arguments_are_unchanged_unless_the_docstring_says_otherwise(calls: list[Call]) -> None:
    """``decompose`` overwrote a contiguous complex128 matrix."""
    changed = []
    for one in calls:
        bound = inspect.signature(one.function).bind(*one.arguments, **one.options)
        before = {name: snapshot(value) for name, value in bound.arguments.items()}
        result = one.function(*one.arguments, **one.options)
        if isinstance(result, Iterator):
            list(result)
        for name, value in bound.arguments.items():
            if not equal(before[name], snapshot(value)) and not may_write(one.function, name):
                changed.append(f"{name_of(one.function)}({name})")
    assert not changed


@pytest.mark.parametrize(
    "form",
    [
        lambda u: u,
        lambda u: u[:1],
        lambda u: u.expand(3, -1, -1),
        lambda u: u.mT,
        lambda u: u.clone().requires_grad_(),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_decompose_leaves_views_and_leaves_alone(
    form: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    memory = torch.linalg.qr(torch.randn(1, 5, 5, dtype=dtype))[0].contiguous()
    before, argument = memory.clone(), form(memory)
    phases = decomposition.decompose(argument)
    assert torch.equal(memory, before)
    rebuilt = decomposition.rebuild(phases)
    assert torch.allclose(rebuilt, argument.detach().to(rebuilt.dtype), atol=1e-10)
