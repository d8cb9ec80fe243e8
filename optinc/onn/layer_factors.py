"""Factors of the layers of an ONN: unitaries, attenuations, gain and reference beam (Fig. 2).

A layer has one of three forms. ``svd``: a mesh for V^T, one attenuator per singular value, and a
mesh for U. ``sigma_u``: for every square block, a mesh for U_a and one attenuator per row; inputs
are split to the blocks, or the blocks' outputs combined, which takes 1/sqrt(k) of the amplitude
(:func:`optinc.photonics.area.block_shares`). ``diagonal``: the same without meshes, for weights
whose blocks are diagonal.

The bias is a reference beam. ``port``: one more input of an SVD layer's mesh, which then plays
[W | b / r] for the amplitude r of the beam. ``attenuator``: the beam is split to the outputs,
attenuated there, and joins through a weak tap; layers without an SVD always have this one.

Passive light only loses power, so every output has a gain behind its detector, in the amplifier
that drives the next layer's modulator. It is the same for all outputs of a layer, and all
attenuations are at most 1:

    output = gain * Re(transfer [inputs; reference beam])
"""

# Shape suffixes: m outputs, n inputs, p input ports (n, or n + 1 with the reference beam),
# B blocks, s size of a block.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optinc.onn.approximation import blocks_by_size, factorize, layer_form, take_blocks
from optinc.photonics import area
from optinc.photonics.chip_settings import BiasForm


@dataclass(frozen=True)
class LayerDescription:
    """Form, size and gain of a layer.

    Attributes:
        form: ``svd`` (U S V^T), ``sigma_u`` (eq. 4) or ``diagonal``.
        outputs: Outputs m.
        inputs: Inputs n, without the port of a reference beam.
        bias: ``port`` or ``attenuator``.
        gain: Amplitude gain behind every detector, splitters and combiners made up for.
        reference: Amplitude of the reference beam in units of the layer's inputs: at its port, or
            at each output before its attenuator.
    """

    form: area.LayerForm
    outputs: int
    inputs: int
    bias: BiasForm
    gain: float
    reference: float

    @property
    def gain_db(self) -> float:
        """The gain in dB: of the electrical amplifier that provides it."""
        return 20 * math.log10(self.gain)

    @property
    def mesh_shapes(self) -> dict[str, tuple[int, int]]:
        """Number B and size n of the meshes by their names."""
        if self.form == "diagonal":
            return {}
        if self.form == "svd":
            ports = self.inputs + (self.bias == "port")
            return {"left": (1, self.outputs), "right": (1, ports)}
        blocks = blocks_by_size(self.outputs, self.inputs)
        return {f"blocks{size}": (len(group), size) for size, group in blocks.items()}

    @property
    def attenuator_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the columns of attenuators by the names of their settings."""
        shapes: dict[str, tuple[int, ...]]
        if self.form == "svd":
            ports = self.inputs + (self.bias == "port")
            shapes = {"attenuation": (min(self.outputs, ports),)}
        else:
            blocks = blocks_by_size(self.outputs, self.inputs)
            shapes = {f"blocks{size}.attenuation": (len(b), size) for size, b in blocks.items()}
        return shapes | ({"bias": (self.outputs,)} if self.bias == "attenuator" else {})

    @property
    def settings(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name of the settings: phases of meshes, attenuations, and attenuated biases."""
        shapes: dict[str, tuple[int, ...]] = dict(self.attenuator_shapes)
        for mesh, (count, size) in self.mesh_shapes.items():
            mzis = (count, area.unitary_mzis(size))
            shapes |= {f"{mesh}.theta": mzis, f"{mesh}.phi": mzis, f"{mesh}.output": (count, size)}
        return shapes

    @property
    def bare(self) -> bool:
        """Whether every output has one input and an attenuator, and nothing else."""
        return self.form == "diagonal" and self.outputs == self.inputs

    @property
    def ways(self) -> int:
        """Ways of the splitters before, or the combiners behind, the largest blocks of a layer."""
        if self.form == "svd":
            return 1
        return area.block_shares(self.outputs, self.inputs)[min(self.outputs, self.inputs)]

    @property
    def parts(self) -> area.PartCounts:
        """The parts that the layer is built of."""
        return area.layer_parts(self.outputs, self.inputs, form=self.form, bias=self.bias)


@dataclass(frozen=True)
class LayerFactors:
    """Factors of a layer.

    Attributes:
        layer: Form, size, gain and reference beam.
        unitaries: float64 unitaries by mesh: ``left`` [1, m, m] (U) and ``right`` [1, p, p] (V^T),
            or ``blocks<s>`` [B, s, s].
        attenuations: float64, ``attenuation`` [min(m, p)] or ``blocks<s>.attenuation`` [B, s], and
            ``bias`` [m] where the bias is an attenuator.
    """

    layer: LayerDescription
    unitaries: dict[str, Tensor]
    attenuations: dict[str, Tensor]


@torch.no_grad()
def factor(linear: nn.Linear, *, approximated: bool, bias: BiasForm) -> LayerFactors:
    """Factor weight and bias of a layer.

    Args:
        linear: The layer.
        approximated: Whether its weight is in Sigma U form.
        bias: Form of the bias, if the layer is an SVD.
    """
    weight_mn, offset_m = linear.weight.double(), linear.bias.double()
    form = layer_form(weight_mn, approximated=approximated)
    bias = bias if form == "svd" else "attenuator"
    reference = 1.0
    if form == "svd":
        weight_mp = weight_mn
        if bias == "port":
            # As strong as the signal of which the layer could make an output as large as the bias.
            strongest = float(torch.linalg.matrix_norm(weight_mn, 2)) or 1.0
            reference = float(offset_m.norm()) / strongest or 1.0
            weight_mp = torch.cat([weight_mn, offset_m.unsqueeze(1) / reference], dim=1)
        unitaries, scales = _of_svd(weight_mp)
    else:
        unitaries, scales = _of_blocks(weight_mn, form)
    gain = max(float(scale.abs().max()) for scale in scales.values()) or 1.0
    attenuations = {name: scale / gain for name, scale in scales.items()}
    if bias == "attenuator":
        reference = float(offset_m.abs().max()) / gain or 1.0
        attenuations["bias"] = (offset_m / (gain * reference)).clamp(-1.0, 1.0)
    outputs, inputs = weight_mn.shape
    layer = LayerDescription(
        form=form, outputs=outputs, inputs=inputs, bias=bias, gain=gain, reference=reference
    )
    return LayerFactors(layer=layer, unitaries=unitaries, attenuations=attenuations)


def _of_svd(weight_mp: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the unitaries and singular values of a weight."""
    left_mm, singular, right_pp = torch.linalg.svd(weight_mp)
    unitaries = {"left": left_mm.unsqueeze(0), "right": right_pp.unsqueeze(0)}
    return unitaries, {"attenuation": singular}


def _of_blocks(
    weight_mn: Tensor, form: area.LayerForm
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the unitaries and scales of blocks; the scales make up for splitters."""
    shares = area.block_shares(*weight_mn.shape)
    unitaries, scales = {}, {}
    for size, blocks in blocks_by_size(*weight_mn.shape).items():
        values_Bss = take_blocks(weight_mn, blocks)
        if form == "diagonal":
            scale_Bs = torch.diagonal(values_Bss, dim1=-2, dim2=-1)
        else:
            scale_Bs, unitaries[f"blocks{size}"] = factorize(values_Bss)
        scales[f"blocks{size}.attenuation"] = scale_Bs * math.sqrt(shares[size])
    return unitaries, scales
