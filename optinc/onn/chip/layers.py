"""Static transfer of an ONN's layers on drawn chips: meshes, attenuators and reference beams.

Mean losses are the same on all ways through a layer, and known: its gain and its reference beam are
set for them. What differs from the mean stays.
"""

# Shape suffixes: C chips, B blocks, m outputs, n inputs, p input ports (n, or n + 1 with the
# reference beam), s size of a block, l = max(m, n), w ways of a splitter, r singular values, k
# inputs of light, E interferometers.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optinc.onn.approximation import blocks_by_size
from optinc.onn.chip.draws import Draws
from optinc.onn.layer_factors import LayerDescription
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics import area
from optinc.photonics.chip_settings import ChipSettings, Shifters
from optinc.photonics.imperfect_mesh import MeshErrors, attenuate, propagate
from optinc.photonics.parts.splitter import Splitter
from optinc.photonics.parts.units import amplitude_of_loss

CHUNK_AMPLITUDES = 1 << 17
"""Complex amplitudes of meshes that are played at once: 2 MiB, what a CPU's cache holds."""


class LayerTransfer(nn.Module):
    """What a layer of drawn chips does to its inputs, up to its detectors and their gain.

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


@dataclass(frozen=True)
class LayerBuilder:
    """Plays the parts of one layer with the errors of drawn chips.

    Attributes:
        settings: Parts and errors.
        draws: Random numbers of the chips.
        programme: Settings of all meshes.
        index: 0-based layer.
    """

    settings: ChipSettings
    draws: Draws
    programme: MeshProgramme
    index: int

    @property
    def layer(self) -> LayerDescription:
        """Form, size and gain."""
        return self.programme.layers[self.index]

    def build(self) -> LayerTransfer:
        """Return the transfer of the layer."""
        layer, settings = self.layer, self.settings
        weight = self._svd() if layer.form == "svd" else self._blocks()
        if layer.bias == "port":
            weight, bias_Cm = weight[..., : layer.inputs], weight[..., layer.inputs]
        else:
            bias_Cm = self._attenuators("bias")
        # A port has one beam for all outputs; attenuators err one by one.
        beams = (1 if layer.bias == "port" else layer.outputs,)
        beam = self._errors_of("bias_error", "bias", beams, settings.bias_error)
        bias_Cm = bias_Cm * (layer.reference * (1 + beam))
        gain_Cm = self._errors_of("gain_error", "gain", (layer.outputs,), settings.gain_error)
        gain_Cm = (layer.gain * (1 + gain_Cm)).expand(self.draws.chips, -1)
        wide = gain_Cm if weight.ndim == 2 else gain_Cm.unsqueeze(-1)
        return LayerTransfer(
            weight=wide * weight, bias_Cm=gain_Cm * bias_Cm, gain_Cm=gain_Cm / self._passed()
        )

    def _svd(self) -> Tensor:
        """Return the passive transfer of a layer in SVD form, complex128 [C, m, p]."""
        attenuation_Cr = self._attenuators("attenuation")
        rank = attenuation_Cr.shape[1]
        left_Cmr = self._mesh("left", inputs=rank)[:, 0]
        right_Crp = self._mesh("right")[:, 0, :rank]
        return left_Cmr * attenuation_Cr.unsqueeze(1) @ right_Crp

    def _blocks(self) -> Tensor:
        """Return the passive transfer of square blocks, complex128 [C, m, n] or [C, m]."""
        layer, chips = self.layer, self.draws.chips
        m, n = layer.outputs, layer.inputs
        if layer.form == "diagonal" and m == n:
            return self._attenuators(f"blocks{m}.attenuation")[:, 0]
        shares = area.block_shares(m, n)
        weight_Cmn = torch.zeros(chips, m, n, dtype=torch.complex128)
        for size, blocks in blocks_by_size(m, n).items():
            passed_CBs = self._attenuators(f"blocks{size}.attenuation") / math.sqrt(shares[size])
            if layer.form == "diagonal":
                block_CBss = torch.diag_embed(passed_CBs)
            else:
                block_CBss = passed_CBs.unsqueeze(-1) * self._mesh(f"blocks{size}")
            for b, (row, column, _) in enumerate(blocks):
                weight_Cmn[:, row : row + size, column : column + size] = block_CBss[:, b]
        if self.settings.splitter_imbalance:
            weight_Cmn *= self._imbalance(m, n)
        return weight_Cmn

    def _imbalance(self, m: int, n: int) -> Tensor:
        """Return what uneven splitters and combiners of blocks multiply weights by, [C, m, n].

        Every input has its splitter where there are more outputs, else every output a combiner.
        """
        size, longer = min(m, n), max(m, n)
        count, rest = divmod(longer, size)
        ways = count + bool(rest)
        if ways < 2:
            return torch.ones(1, m, n, dtype=torch.float64)
        splitter = Splitter(ways=ways, imbalance=self.settings.splitter_imbalance)
        place = self._place(f"splitters{m}x{n}")
        random = self.draws.standard("splitter_imbalance", place, (size, ways - 1))
        share_Csw = math.sqrt(ways) * splitter.amplitudes(random)
        # By row of the longer side: the block to which it belongs, the rest being the last.
        share_Csl = share_Csw[..., torch.arange(longer).div(size, rounding_mode="floor")]
        relative_Cmn = share_Csl.mT if m >= n else share_Csl
        if rest:
            below = (
                (slice(-rest, None), slice(None)) if m >= n else (slice(None), slice(-rest, None))
            )
            inner = self._imbalance(rest, n) if m >= n else self._imbalance(m, rest)
            relative_Cmn = relative_Cmn.clone()
            relative_Cmn[(slice(None), *below)] *= inner
        return relative_Cmn

    def _attenuators(self, name: str) -> Tensor:
        """Return amplitudes that attenuators pass, mean loss made up for, [C or 1, ...]."""
        setting = self.programme.settings[self._place(name)]
        columns = setting.reshape(-1, setting.shape[-1])
        errors = self._errors(name, columns.shape, None, "one_arm", self.draws)
        played = attenuate(columns, errors) / self._column
        error = self._errors_of(
            "attenuator_error", name, setting.shape, self.settings.attenuator_error
        )
        return played.reshape(-1, *setting.shape) * (1 + error)

    def _mesh(self, name: str, *, inputs: int | None = None) -> Tensor:
        """Return the transfer of meshes, mean loss made up for, complex128 [C, B, s, inputs]."""
        phases = self.programme.phases(self._place(name))
        mzis, outputs = phases.theta_BE.shape, phases.output_Bn.shape
        field_sk = torch.eye(outputs[1], dtype=torch.complex128)[:, :inputs]
        chunk = max(1, CHUNK_AMPLITUDES // (outputs[0] * field_sk.numel()))
        played = []
        for draws in self.draws.chunks(chunk):
            errors = self._errors(name, mzis, outputs, phases.shifters, draws)
            field_CBsk = field_sk.expand(draws.chips, outputs[0], -1, -1)
            played.append(propagate(field_CBsk, phases, errors))
        return torch.cat(played) / self._column ** area.mesh_depth(outputs[1])

    def _errors(
        self,
        name: str,
        mzis: Sequence[int],
        outputs: Sequence[int] | None,
        shifters: Shifters,
        draws: Draws,
    ) -> MeshErrors:
        """Draw the errors of interferometers [B, E], and of external and output phases [B, n]."""
        settings, place = self.settings, self._place(name)
        arms, phase = (*mzis, 2), settings.phase_error

        couplers = draws.errors("coupler_error", place, arms, sigma=settings.coupler_error)
        if settings.coupler_common_error:
            zero = torch.zeros(1, *arms, dtype=torch.float64)
            couplers = (zero if couplers is None else couplers) + settings.coupler_common_error
        internal = draws.errors("phase_error", f"{place}.arms", arms, sigma=phase)
        if internal is not None and shifters == "one_arm":
            internal[..., 0] = 0.0  # no shifter, no error
        external = output = None
        if outputs is not None:
            external = draws.errors("phase_error", f"{place}.phi", mzis, sigma=phase)
            output = draws.errors("phase_error", f"{place}.output", outputs, sigma=phase)
        spread = draws.errors("mzi_loss_spread", place, arms, sigma=settings.mzi_loss_spread)
        if spread is None and settings.mzi_loss:
            spread = torch.zeros(1, *arms, dtype=torch.float64)
        return MeshErrors(
            couplers_CBE2=couplers,
            arms_CBE2=internal,
            phi_CBE=external,
            output_CBn=output,
            loss_CBE2=None if spread is None else settings.mzi_loss + spread,
            skip=self._column
            if settings.skip_loss is None
            else amplitude_of_loss(settings.skip_loss),
            extinction=settings.extinction,
            phase_bits=settings.phase_bits,
            crosstalk=settings.crosstalk,
        )

    @property
    def _column(self) -> float:
        """Mean amplitude that an MZI passes; finite extinction takes some of it."""
        extinction = self.settings.extinction
        dark = 0.0 if extinction is None else amplitude_of_loss(extinction)
        return amplitude_of_loss(self.settings.mzi_loss) / (1 + dark)

    def _passed(self) -> float:
        """Return the amplitude that mean losses leave, besides splitting and the layer's gain."""
        layer, settings = self.layer, self.settings
        excess = 0.0
        if layer.form != "svd":
            ways = area.block_shares(layer.outputs, layer.inputs)[min(layer.outputs, layer.inputs)]
            excess = Splitter(ways=ways).stages * settings.splitter_loss
        return float(self._column**layer.parts.optical_depth * amplitude_of_loss(excess))

    def _errors_of(self, effect: str, name: str, shape: Sequence[int], sigma: float) -> Tensor:
        """Draw normal errors float64 [C, *shape], or zeros [1, *shape] where sigma is 0."""
        drawn = self.draws.errors(effect, self._place(name), shape, sigma=sigma)
        return torch.zeros(1, *shape, dtype=torch.float64) if drawn is None else drawn

    def _place(self, name: str) -> str:
        return f"layers.{self.index}.{name}"
