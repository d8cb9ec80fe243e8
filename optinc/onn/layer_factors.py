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
    def settings(self) -> list[str]:
        """Names of the settings of the layer: phases of its meshes, attenuations, and its bias."""
        if self.form == "svd":
            meshes, names = ["left", "right"], ["attenuation"]
        else:
            meshes = [f"blocks{size}" for size in blocks_by_size(self.outputs, self.inputs)]
            names = [f"{mesh}.attenuation" for mesh in meshes]
        if self.form != "diagonal":
            names += [f"{m}.{phase}" for m in meshes for phase in ("theta", "phi", "output")]
        return [*names, "bias"] if self.bias == "attenuator" else names

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
