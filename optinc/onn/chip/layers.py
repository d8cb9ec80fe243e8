"""Static transfer of an ONN's layers on drawn chips: meshes, attenuators and reference beams."""

# Shape suffixes: C chips, B blocks, m outputs, n inputs, p input ports (n, or n + 1 with the
# reference beam), s size of a block, r singular values, E interferometers.

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.onn.approximation import Block, blocks_by_size
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import LayerDescription, MeshProgramme
from optinc.photonics import area
from optinc.photonics.chip_settings import ChipSettings, Hardware
from optinc.photonics.imperfect_mesh import MeshErrors, attenuate, propagate
from optinc.photonics.parts.units import amplitude_of_loss

CHUNK_AMPLITUDES = 1 << 17
"""Complex amplitudes of meshes that are played at once: 2 MiB, what a CPU's cache holds."""


@dataclass(frozen=True)
class LayerTransfer:
    """What a layer of drawn chips does to its inputs, up to its detectors and their gain.

    Attributes:
        weight: complex64 [C, m, n], or [C, m] where every output has one input and an attenuator.
        bias_Cm: complex64 amplitudes of the reference beam.
        gain_Cm: Gains of the outputs, float32 [C, m]; weight and bias are multiplied already. It is
            the amplitude at the output for an amplitude of 1 that arrives at the detector.
    """

    weight: Tensor
    bias_Cm: Tensor
    gain_Cm: Tensor

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
        layer, chips = self.layer, self.draws.chips
        weight = self._svd() if layer.form == "svd" else self._blocks()
        if layer.bias == "port":
            bias_Cm = weight[..., layer.inputs]
            weight = weight[..., : layer.inputs]
        else:
            bias_Cm = self._attenuators("bias")
        beam = self._normal("bias_error", "reference", (), self.settings.bias_error)
        bias_Cm = bias_Cm * (layer.reference * (1 + beam.unsqueeze(-1)))
        gain_Cm = layer.gain * (
            1 + self._normal("gain_error", "gain", (layer.outputs,), self.settings.gain_error)
        )
        wide = gain_Cm if weight.ndim == 2 else gain_Cm.unsqueeze(-1)
        return LayerTransfer(
            weight=(wide * weight).expand(chips, *weight.shape[1:]).to(torch.complex64),
            bias_Cm=(gain_Cm * bias_Cm).expand(chips, -1).to(torch.complex64),
            gain_Cm=gain_Cm.expand(chips, -1).float() / self._passed(),
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
        layer = self.layer
        m, n = layer.outputs, layer.inputs
        shares, sizes = area.block_shares(m, n), blocks_by_size(m, n)
        if layer.form == "diagonal" and m == n:
            return self._attenuators(f"blocks{m}.attenuation")[:, 0]
        weight = torch.zeros(self.draws.chips, m, n, dtype=torch.complex128)
        for size, blocks in sizes.items():
            passed_CBs = self._attenuators(f"blocks{size}.attenuation")
            passed_CBs = passed_CBs * self._split(size, blocks) / math.sqrt(shares[size])
            if layer.form == "diagonal":
                block_CBss = torch.diag_embed(passed_CBs)
            else:
                block_CBss = passed_CBs.unsqueeze(-1) * self._mesh(f"blocks{size}")
            for b, (row, column, _) in enumerate(blocks):
                weight[:, row : row + size, column : column + size] = block_CBss[:, b]
        return weight

    def _split(self, size: int, blocks: list[Block]) -> Tensor:
        """Return the relative amplitudes that splitters and combiners give to blocks, [C, B, 1]."""
        sigma = self.settings.splitter_imbalance if self._ways(size) > 1 else 0.0
        decibels = self._normal("splitter_imbalance", f"blocks{size}", (len(blocks), 1), sigma)
        return 10.0 ** (decibels / 20)

    def _ways(self, size: int) -> int:
        return area.block_shares(self.layer.outputs, self.layer.inputs)[size]

    def _attenuators(self, name: str) -> Tensor:
        """Return amplitudes that attenuators pass, with their errors, [C or 1, ...]."""
        setting = self.programme.settings[self._place(name)]
        errors = self._errors(
            name, setting.reshape(-1, setting.shape[-1]).shape, (), "one_arm", self.draws
        )
        played = attenuate(setting.reshape(-1, setting.shape[-1]), errors).unflatten(
            1, setting.shape[:-1] or (1,)
        )
        if setting.ndim == 1:
            played = played[:, 0]
        sigma = self.settings.attenuator_error
        return played * (1 + self._normal("attenuator_error", name, setting.shape, sigma))

    def _mesh(self, name: str, *, inputs: int | None = None) -> Tensor:
        """Return the transfer of the meshes of one name, complex128 [C, B, s, inputs].

        The mean loss, equal on all ways, is made up for by the gain: see ``gain_Cm``.
        """
        phases = self.programme.phases(self._place(name))
        blocks, size = phases.output_Bn.shape
        field_sk = torch.eye(size, dtype=torch.complex128)[:, :inputs]
        chunk = max(1, CHUNK_AMPLITUDES // (blocks * field_sk.numel()))
        return torch.cat(
            [
                propagate(
                    field_sk.expand(draws.chips, blocks, -1, -1),
                    phases,
                    self._errors(
                        name, phases.theta_BE.shape, (blocks, size), phases.hardware, draws
                    ),
                )
                for draws in _chunks(self.draws, chunk)
            ]
        )

    def _errors(
        self,
        name: str,
        mzis: tuple[int, ...],
        outputs: tuple[int, ...],
        hardware: Hardware,
        draws: Draws,
    ) -> MeshErrors:
        """Draw the errors of interferometers [B, E] and of output phases [B, n]."""
        settings, place = self.settings, self._place(name)
        couplers = draws.normal("coupler_error", place, (*mzis, 2), sigma=settings.coupler_error)
        if settings.coupler_common_error:
            zero = torch.zeros(1, *mzis, 2, dtype=torch.float64)
            couplers = (zero if couplers is None else couplers) + settings.coupler_common_error
        phase = settings.phase_error
        arms = draws.normal("phase_error", f"{place}.arms", (*mzis, 2), sigma=phase)
        if arms is not None and hardware == "one_arm":
            arms[..., 0] = 0.0
        phi = output = None
        if outputs:
            phi = draws.normal("phase_error", f"{place}.phi", mzis, sigma=phase)
            output = draws.normal("phase_error", f"{place}.output", outputs, sigma=phase)
        loss = settings.mzi_loss_spread
        skip = settings.mzi_loss if settings.skip_loss is None else settings.skip_loss
        return MeshErrors(
            couplers_CBE2=couplers,
            arms_CBE2=arms,
            phi_CBE=phi,
            output_CBn=output,
            loss_CBE2=draws.normal("mzi_loss_spread", place, (*mzis, 2), sigma=loss),
            skip_loss=skip - settings.mzi_loss,
            extinction=settings.extinction,
            phase_bits=settings.phase_bits,
            crosstalk=settings.crosstalk,
        )

    def _passed(self) -> float:
        """Return the amplitude that the mean losses of the layer's parts leave."""
        layer, settings = self.layer, self.settings
        ports = layer.inputs + (layer.bias == "port")
        if layer.form == "diagonal":
            columns = 1
        elif layer.form == "svd":
            columns = layer.outputs + ports + 1
        else:
            columns = min(layer.outputs, layer.inputs) + 1
        return amplitude_of_loss(columns * settings.mzi_loss)

    def _normal(
        self, effect: str, name: str, shape: tuple[int, ...] | torch.Size, sigma: float
    ) -> Tensor:
        """Draw normal errors float64 [C, *shape], or zeros [1, *shape] where sigma is 0."""
        drawn = self.draws.normal(effect, self._place(name), shape, sigma=sigma)
        return torch.zeros(1, *shape, dtype=torch.float64) if drawn is None else drawn

    def _place(self, name: str) -> str:
        return f"layers.{self.index}.{name}"


def _chunks(draws: Draws, size: int) -> Iterator[Draws]:
    """Cut chips into chunks."""
    for start in range(0, draws.chips, size):
        yield Draws(draws.seed, min(size, draws.chips - start), draws.first + start)
