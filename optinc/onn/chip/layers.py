"""Static transfer of an ONN's layers on drawn chips: meshes, attenuators and reference beams.

Mean losses are the same on all ways through a layer, and known: its gain and its reference beam are
set for them. What differs from the mean stays.
"""

# Shape suffixes: C chips, B blocks, m outputs, n inputs, p input ports (n, or n + 1 with the
# reference beam), s size of a block, r singular values.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from optinc.onn.approximation import blocks_by_size
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import LayerErrors, draw_errors
from optinc.onn.layer_factors import LayerDescription
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics import area
from optinc.photonics.chip_settings import ChipSettings, Shifters
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.imperfect_mesh import attenuate, propagate

CHUNK_AMPLITUDES = 1 << 17
"""Complex amplitudes of meshes that are played at once: 2 MiB, what a CPU's cache holds."""


class LayerTransfer(nn.Module):
    """Transfer of a layer of drawn chips, from its inputs to its detectors and their gain.

    Args:
        weight: Complex [C, m, n], or [C, m] where every output has one input and an attenuator.
        bias_Cm: Complex amplitudes of the reference beam at the outputs.
        gain_Cm: Outputs for an amplitude of 1 at the detectors, losses included. Weight and bias
            are multiplied already.

    Attributes:
        weight: The same in complex64.
        bias_Cm: The same in complex64.
        gain_Cm: The same in float32.
    """

    weight: Tensor
    bias_Cm: Tensor
    gain_Cm: Tensor

    def __init__(self, weight: Tensor, bias_Cm: Tensor, gain_Cm: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(torch.complex64).contiguous())
        self.register_buffer("bias_Cm", bias_Cm.to(torch.complex64).contiguous())
        self.register_buffer("gain_Cm", gain_Cm.float().contiguous())

    @property
    def diagonal(self) -> bool:
        """Whether every output has one input."""
        return self.weight.ndim == 2


class PlayedLayer(NamedTuple):
    """The transfer of a layer, differentiable in phases and errors.

    Attributes:
        weight: Complex [C, m, n], or [C, m] where every output has one input and an attenuator.
        bias_Cm: Complex amplitudes of the reference beam at the outputs, [C, m].
        gain_Cm: Outputs for an amplitude of 1 at the detectors, losses included, [C, m].
    """

    weight: Tensor
    bias_Cm: Tensor
    gain_Cm: Tensor


@torch.no_grad()
def draw_layer(
    settings: ChipSettings, draws: Draws, programme: MeshProgramme, index: int
) -> LayerTransfer:
    """Draw the errors of a layer and play its parts.

    Args:
        settings: Parts and errors.
        draws: Random numbers of the chips.
        programme: Settings of all meshes, the same for all chips or those of each chip.
        index: 0-based layer.
    """
    layer, phases = programme.layers[index], programme.layer_phases(index)
    amplitudes = max((b * n * n for b, n in layer.mesh_shapes.values()), default=layer.outputs)
    played = []
    for some in draws.chunks(max(1, CHUNK_AMPLITUDES // amplitudes)):
        errors = draw_errors(layer, settings, some, index=index, shifters=programme.shifters)
        own = {
            name: value if len(value) == 1 else value[some.first : some.first + some.chips]
            for name, value in phases.items()
        }
        played.append(play(layer, own, errors, shifters=programme.shifters))
    return LayerTransfer(*(torch.cat(values) for values in zip(*played, strict=True)))


def play(
    layer: LayerDescription,
    phases: Mapping[str, Tensor],
    errors: LayerErrors,
    *,
    shifters: Shifters,
) -> PlayedLayer:
    """Play the parts of a layer.

    Args:
        layer: Form, size and gain.
        phases: Phases in rad by name, chips first, from :meth:`MeshProgramme.layer_phases`; the
            amplitude that an attenuator passes is the sine of its phase.
        errors: Errors of the chips.
        shifters: Form of the meshes' interferometers.
    """
    parts = _Parts(layer, phases, errors, shifters)
    weight = parts.svd() if layer.form == "svd" else parts.blocks()
    if layer.bias == "port":
        weight, bias_Cm = weight[..., : layer.inputs], weight[..., layer.inputs]
    else:
        bias_Cm = parts.attenuators("bias")
    bias_Cm = bias_Cm * (layer.reference * (1 + errors.beam))
    gain_Cm = (layer.gain * (1 + errors.gain_Cm)).expand(errors.chips, -1)
    wide = gain_Cm if layer.bare else gain_Cm.unsqueeze(-1)
    passed = errors.column**layer.parts.optical_depth * errors.excess
    return PlayedLayer(wide * weight, gain_Cm * bias_Cm, gain_Cm / passed)


class _Parts(NamedTuple):
    """The parts of one layer at work."""

    layer: LayerDescription
    phases: Mapping[str, Tensor]
    errors: LayerErrors
    shifters: Shifters

    def svd(self) -> Tensor:
        """Return the passive transfer of a layer in SVD form, complex [C, m, p]."""
        attenuation_Cr = self.attenuators("attenuation")
        rank = attenuation_Cr.shape[1]
        left_Cmr = self.mesh("left", inputs=rank)[:, 0]
        right_Crp = self.mesh("right")[:, 0, :rank]
        return left_Cmr * attenuation_Cr.unsqueeze(1) @ right_Crp

    def blocks(self) -> Tensor:
        """Return the passive transfer of square blocks, complex [C, m, n] or [C, m]."""
        layer, chips = self.layer, self.errors.chips
        m, n = layer.outputs, layer.inputs
        if layer.bare:
            return self.attenuators(f"blocks{m}.attenuation")[:, 0]
        shares = area.block_shares(m, n)
        weight_Cmn: Tensor | None = None
        for size, blocks in blocks_by_size(m, n).items():
            passed_CBs = self.attenuators(f"blocks{size}.attenuation") / math.sqrt(shares[size])
            if weight_Cmn is None:
                weight_Cmn = torch.zeros(chips, m, n, dtype=passed_CBs.dtype)
            if layer.form == "diagonal":
                block_CBss = torch.diag_embed(passed_CBs)
            else:
                block_CBss = passed_CBs.unsqueeze(-1) * self.mesh(f"blocks{size}")
            for b, (row, column, _) in enumerate(blocks):
                weight_Cmn[:, row : row + size, column : column + size] = block_CBss[:, b]
        assert weight_Cmn is not None  # a layer has a block
        imbalance_Cmn = self.errors.imbalance_Cmn
        return weight_Cmn if imbalance_Cmn is None else weight_Cmn * imbalance_Cmn

    def attenuators(self, name: str) -> Tensor:
        """Return amplitudes that attenuators pass, mean loss made up for, [C, ...]."""
        phases = self.phases[name]
        columns_CBM = phases if phases.ndim == 3 else phases.unsqueeze(1)
        played = attenuate(columns_CBM, self.errors.parts[name]) / self.errors.column
        played = played.reshape(len(played), *phases.shape[1:]) * (1 + self.errors.passed[name])
        return played.expand(self.errors.chips, *phases.shape[1:])

    def mesh(self, name: str, *, inputs: int | None = None) -> Tensor:
        """Return the transfer of meshes, mean loss made up for, complex [C, B, s, inputs]."""
        phases = MeshPhases(
            theta_BE=self.phases[f"{name}.theta"],
            phi_BE=self.phases[f"{name}.phi"],
            output_Bn=self.phases[f"{name}.output"],
            shifters=self.shifters,
        )
        meshes, size = self.layer.mesh_shapes[name]
        single = phases.output_Bn.dtype == torch.float32
        dtype = torch.complex64 if single else torch.complex128
        field_sk = torch.eye(size, dtype=dtype)[:, :inputs]
        field_CBsk = field_sk.expand(self.errors.chips, meshes, -1, -1)
        played = propagate(field_CBsk, phases, self.errors.parts[name])
        return played / self.errors.column ** area.mesh_depth(size)
