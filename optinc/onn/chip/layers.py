"""Static transfer of an ONN's layers on drawn chips: meshes, attenuators and reference beams."""

# Shape suffixes: C chips, B blocks, m outputs, n inputs, s size of a block, r singular values.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.onn.approximation import blocks_by_size
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import LayerDescription, MeshProgramme
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.imperfect_mesh import MeshErrors, propagate

CHUNK_ELEMENTS = 1 << 19
"""Complex amplitudes of meshes that are played at once; larger chunks leave a CPU's cache."""


@dataclass(frozen=True)
class LayerTransfer:
    """What a layer of drawn chips does to its input amplitudes, before it is detected.

    Attributes:
        weight: Complex [C, m, n], or [C, m] where each output has its own attenuator.
        bias_Cm: Complex amplitudes of the reference beam at the outputs, [C, m].
        gain: Gain of the electronics from passive amplitudes of at most 1 to the layer's.
    """

    weight: Tensor
    bias_Cm: Tensor
    gain: float

    @property
    def diagonal(self) -> bool:
        """Whether every input has its own output."""
        return self.weight.ndim == 2


@dataclass(frozen=True)
class LayerBuilder:
    """Plays the meshes of one layer with the errors of drawn chips.

    Attributes:
        settings: Parts and errors.
        draws: Random numbers of the chips.
        programme: Settings of the meshes.
        index: Number of the layer, from 0.
    """

    settings: ChipSettings
    draws: Draws
    programme: MeshProgramme
    index: int

    @property
    def layer(self) -> LayerDescription:
        """Form, size and gains."""
        return self.programme.layers[self.index]

    def build(self) -> LayerTransfer:
        """Return the transfer of the layer."""
        layer, chips = self.layer, self.draws.chips
        build = {"svd": self._svd, "sigma_u": self._sigma_u, "diagonal": self._diagonal}
        weight = build[layer.form]() * layer.gain
        bias_Cm = self._attenuated(
            self._setting("bias"), "bias", self.settings.bias_error, "bias_error"
        )
        bias_Cm = bias_Cm.expand(chips, -1) * layer.bias_gain + 0j
        gain_Cm = self.draws.normal(
            "gain_error", self._place(""), (layer.outputs,), sigma=self.settings.gain_error
        )
        if gain_Cm is not None:
            bias_Cm = bias_Cm * (1 + gain_Cm)
            weight = weight * (1 + gain_Cm).reshape(chips, -1, *[1] * (weight.ndim - 2))
        return LayerTransfer(weight.to(torch.complex64), bias_Cm.to(torch.complex64), layer.gain)

    def _svd(self) -> Tensor:
        right = self._mesh("right")
        attenuation_Cr = self._attenuation("attenuation")
        rank = attenuation_Cr.shape[1]
        left = self._mesh("left", inputs=rank)
        return (left[:, 0] * attenuation_Cr.unsqueeze(1)) @ right[:, 0, :rank]

    def _sigma_u(self) -> Tensor:
        layer = self.layer
        weight = torch.zeros(self.draws.chips, layer.outputs, layer.inputs, dtype=torch.complex128)
        for size, blocks in blocks_by_size(layer.outputs, layer.inputs).items():
            unitary_CBss = self._mesh(f"blocks{size}")
            scale_CBs = self._attenuation(f"blocks{size}.attenuation")
            for b, block in enumerate(blocks):
                rows = slice(block.row, block.row + size)
                columns = slice(block.column, block.column + size)
                weight[:, rows, columns] = scale_CBs[:, b].unsqueeze(-1) * unitary_CBss[:, b]
        return weight

    def _diagonal(self) -> Tensor:
        return self._attenuation("attenuation").expand(self.draws.chips, -1) + 0j

    def _attenuation(self, name: str) -> Tensor:
        sigma = self.settings.attenuator_error
        return self._attenuated(self._setting(name), name, sigma, "attenuator_error")

    def _attenuated(self, setting: Tensor, name: str, sigma: float, effect: str) -> Tensor:
        """Return attenuators with their relative errors, [C, ...] or [1, ...]."""
        error = self.draws.normal(effect, self._place(name), setting.shape, sigma=sigma)
        return setting.unsqueeze(0) if error is None else setting * (1 + error)

    def _mesh(self, name: str, *, inputs: int | None = None) -> Tensor:
        """Return the transfer of the meshes of a name, complex128 [C, B, s, inputs]."""
        phases = self._phases(name)
        size = phases.output_Bn.shape[1]
        field_sk = torch.eye(size, dtype=torch.complex128)[:, :inputs]
        blocks = len(phases.output_Bn)
        chunk = max(1, CHUNK_ELEMENTS // max(1, blocks * field_sk.numel()))
        played = [
            propagate(
                field_sk.expand(draws.chips, blocks, -1, -1),
                phases,
                self._errors(name, phases, draws),
                hardware=self.settings.hardware,
            )
            for draws in _chunks(self.draws, chunk)
        ]
        return torch.cat(played)

    def _errors(self, name: str, phases: MeshPhases, draws: Draws) -> MeshErrors:
        """Draw the errors of meshes."""
        settings, place = self.settings, self._place(name)
        shape_BE, shape_Bn = phases.theta_BE.shape, phases.output_Bn.shape
        couplers = draws.normal(
            "coupler_error", place, (*shape_BE, 2), sigma=settings.coupler_error
        )
        if settings.coupler_common_error:
            common = torch.full((1, *shape_BE, 2), settings.coupler_common_error).double()
            couplers = common if couplers is None else couplers + common

        def phase(which: str, shape: torch.Size) -> Tensor | None:
            return draws.normal(
                "phase_error", f"{place}.{which}", shape, sigma=settings.phase_error
            )

        return MeshErrors(
            couplers_CBE2=couplers,
            theta_CBE=phase("theta", shape_BE),
            phi_CBE=phase("phi", shape_BE),
            output_CBn=phase("output", shape_Bn),
            loss_CBE2=draws.normal(
                "mzi_loss_spread", place, (*shape_BE, 2), sigma=settings.mzi_loss_spread
            ),
            phase_bits=settings.phase_bits,
            crosstalk=settings.crosstalk,
        )

    def _phases(self, name: str) -> MeshPhases:
        names = (f"{name}.theta", f"{name}.phi", f"{name}.output")
        return MeshPhases(*(self._setting(each) for each in names))

    def _setting(self, name: str) -> Tensor:
        return self.programme.settings[self._place(name)]

    def _place(self, name: str) -> str:
        return f"layers.{self.index}.{name}"


def _chunks(draws: Draws, size: int) -> Iterator[Draws]:
    """Cut chips into chunks."""
    for start in range(0, draws.chips, size):
        yield Draws(draws.seed, min(size, draws.chips - start), draws.first + start)
