"""Derivatives of the detected outputs of a layer by each of its phases.

Light is sent through the layer from its inputs to every phase shifter, and back to it from the
detectors; an answer is the product of the two. Crosstalk between shifters, a small share, is left
out: steps that are repeated make up for it.
"""

# Shape suffixes: C chips, B meshes, n modes, M interferometers of one column, D phases, m outputs,
# r singular values, q inputs that the layer is measured with; 2 is upper and lower mode.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.onn.approximation import blocks_by_size
from optinc.onn.chip.errors import LayerErrors
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics import area
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.imperfect_mesh import (
    attenuate,
    built_columns,
    mix,
    output_phases,
    over_arms,
)
from optinc.photonics.parts.phase_shifter import shift


@dataclass(frozen=True)
class Answers:
    """Detected outputs of a layer, and how they answer to its phases.

    Attributes:
        outputs_Cmq: Outputs for the inputs, gain included.
        by_phase: For every setting by name, float [C, D, m, q]: change of the outputs per rad.
    """

    outputs_Cmq: Tensor
    by_phase: dict[str, Tensor]


@torch.no_grad()
def answers(
    layer: LayerDescription,
    phases: Mapping[str, Tensor],
    errors: LayerErrors,
    inputs_nq: Tensor,
    *,
    shifters: Shifters,
) -> Answers:
    """Return the outputs of a layer for inputs, and their derivatives by all phases.

    Args:
        layer: Form, size and gain.
        phases: Phases in rad by name, [C, ...].
        errors: Errors of the chips.
        inputs_nq: q inputs of the layer, float [n + 1, q]; the last row is the share of the
            reference beam, 1 for an input as it is.
        shifters: Form of the meshes' interferometers.

    Returns:
        Outputs and derivatives, in memory C x phases x outputs x q numbers.
    """
    at_work = _Answering(layer, phases, errors, inputs_nq, shifters)
    found = at_work.svd() if layer.form == "svd" else at_work.blocks()
    return at_work.with_bias(found) if layer.bias == "attenuator" else found


@dataclass(frozen=True)
class _Answering:
    layer: LayerDescription
    phases: Mapping[str, Tensor]
    errors: LayerErrors
    inputs_nq: Tensor
    shifters: Shifters

    @property
    def gain_Cm(self) -> Tensor:  # noqa: N802
        return (self.layer.gain * (1 + self.errors.gain_Cm)).expand(self.errors.chips, -1)

    @property
    def beam(self) -> Tensor:
        """Amplitude of the reference beam at the port, or at every output, [C or 1, 1 or m]."""
        return self.layer.reference * (1 + self.errors.beam)

    def attenuators(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the amplitudes that attenuators pass, and their derivatives, complex [C, ...]."""
        phases, part = self.phases[name], self.errors.parts[name]
        columns_CBM = phases.reshape(len(phases), -1, phases.shape[-1])
        # A sum of a sine and a cosine: its slope is its value a quarter of a turn later.
        played = attenuate(columns_CBM, part)
        slope = attenuate(columns_CBM.abs() + math.pi / 2, part)
        scale = (1 + self.errors.passed[name]) / self.errors.column
        shape = (self.errors.chips, *phases.shape[1:])
        return tuple(  # type: ignore[return-value]
            (value.reshape(-1, *shape[1:]) * scale).expand(shape) for value in (played, slope)
        )

    def mesh(self, name: str) -> _Mesh:
        phases = MeshPhases(
            theta_BE=self.phases[f"{name}.theta"],
            phi_BE=self.phases[f"{name}.phi"],
            output_Bn=self.phases[f"{name}.output"],
            shifters=self.shifters,
        )
        return _Mesh(phases, self, name)

    def svd(self) -> Answers:
        chips = self.errors.chips
        inputs_nq = self.inputs_nq[:-1]
        sent = inputs_nq.expand(chips, *inputs_nq.shape)
        if self.layer.bias == "port":
            beam = self.beam.unsqueeze(-1) * self.inputs_nq[-1]
            sent = torch.cat([sent, beam.expand(chips, 1, -1)], dim=1)
        passed_Cr, slope_Cr = self.attenuators("attenuation")
        rank = passed_Cr.shape[1]
        left, right = self.mesh("left"), self.mesh("right")
        middle_Crq = right.send(sent.unsqueeze(1))[:, 0, :rank]
        dark_rows = self.layer.outputs - rank
        entering = torch.nn.functional.pad(
            passed_Cr.unsqueeze(-1) * middle_Crq, (0, 0, 0, dark_rows)
        )
        outputs = left.send(entering.unsqueeze(1))[:, 0]
        gain_Cmm = torch.diag_embed(self.gain_Cm).to(outputs.dtype)
        by_phase = left.answer(gain_Cmm.unsqueeze(1))
        back_Cmr = left.back[:, 0, :, :rank]
        by_phase["attenuation"] = torch.einsum(
            "cmr,cr,crq->crmq", back_Cmr, slope_Cr, middle_Crq
        ).real
        dark = right.back_size - rank
        returning = torch.nn.functional.pad(back_Cmr * passed_Cr.unsqueeze(1), (0, dark))
        by_phase |= right.answer(returning.unsqueeze(1))
        by_phase = {name: value.flatten(1, -3) for name, value in by_phase.items()}
        return Answers(self.gain_Cm.unsqueeze(-1) * outputs.real, by_phase)

    def blocks(self) -> Answers:
        layer, chips = self.layer, self.errors.chips
        m, q = layer.outputs, self.inputs_nq.shape[1]
        outputs = torch.zeros(chips, m, q, dtype=self.inputs_nq.dtype)
        by_phase: dict[str, Tensor] = {}
        shares = {layer.outputs: 1} if layer.bare else area.block_shares(m, layer.inputs)
        for size, blocks in blocks_by_size(m, layer.inputs).items():
            name = f"blocks{size}"
            rows = [slice(block.row, block.row + size) for block in blocks]
            columns = [slice(block.column, block.column + size) for block in blocks]
            entering, leaving = self._uneven(rows, columns)
            sent = torch.stack([self.inputs_nq[column] for column in columns]) * entering
            sent = sent.expand(chips, -1, -1, -1)
            passed, slope = (
                value / math.sqrt(shares[size]) for value in self.attenuators(f"{name}.attenuation")
            )
            scale = leaving * torch.stack([self.gain_Cm[:, row] for row in rows], dim=1)
            found: dict[str, Tensor] = {}
            if layer.form == "diagonal":
                through = sent.to(passed.dtype)
            else:
                mesh = self.mesh(name)
                through = mesh.send(sent)
                found = mesh.answer(torch.diag_embed(scale * passed))
            one = torch.eye(size, dtype=slope.dtype)
            found[f"{name}.attenuation"] = torch.einsum(
                "cbi,ij,cbiq->cbijq", scale * slope, one, through
            ).real
            block_outputs = ((scale * passed).unsqueeze(-1) * through).real
            for b, row in enumerate(rows):
                outputs[:, row] += block_outputs[:, b]
            for key, local in found.items():
                full = torch.zeros(chips, *local.shape[1:3], m, q, dtype=outputs.dtype)
                for b, row in enumerate(rows):
                    full[:, b, :, row] = local[:, b]
                by_phase[key] = full.flatten(1, 2)
        return Answers(outputs, by_phase)

    def _uneven(self, rows: list[slice], columns: list[slice]) -> tuple[Tensor, Tensor]:
        """Return what uneven splitters multiply inputs by, [C, B, s, 1], and outputs, [C, B, s].

        A block has a splitter before its inputs, or a combiner behind its outputs, or both.
        """
        imbalance_Cmn = self.errors.imbalance_Cmn
        if imbalance_Cmn is None:
            one = torch.ones(1, 1, 1, dtype=self.inputs_nq.dtype)
            return one.unsqueeze(-1), one
        blocks = [imbalance_Cmn[:, r, c] for r, c in zip(rows, columns, strict=True)]
        entering = torch.stack([block[:, 0] for block in blocks], dim=1)
        leaving = torch.stack([block[:, :, 0] / block[:, :1, 0] for block in blocks], dim=1)
        return entering.unsqueeze(-1), leaving

    def with_bias(self, found: Answers) -> Answers:
        """Add attenuated reference beams to outputs and answers."""
        passed_Cm, slope_Cm = self.attenuators("bias")
        scale_Cm = self.gain_Cm * self.beam
        beam_q = self.inputs_nq[-1]
        outputs = found.outputs_Cmq + (scale_Cm * passed_Cm.real).unsqueeze(-1) * beam_q
        answer = torch.diag_embed(scale_Cm * slope_Cm.real).unsqueeze(-1) * beam_q
        return Answers(outputs, found.by_phase | {"bias": answer})


class _Mesh:
    """Light through meshes, forth and back."""

    def __init__(self, phases: MeshPhases, answering: _Answering, name: str) -> None:
        self.phases, self.name = phases, name
        self.errors = answering.errors.parts[name]
        self.back_size = phases.output_Bn.shape[-1]
        self.mean = answering.errors.column ** area.mesh_depth(self.back_size)
        self.fields: list[Tensor] = []

    def send(self, field_CBnq: Tensor) -> Tensor:
        """Return light behind the meshes, mean losses made up for; fields are kept on the way."""
        dtype = torch.complex64 if field_CBnq.dtype in SINGLE else torch.complex128
        field_CBnq = field_CBnq.to(dtype) / self.mean
        self.columns = [
            (first, slots, over_arms(self.phases, self.errors, slots))
            for first, slots in built_columns(self.back_size)
        ]
        for first, _, (upper, lower) in self.columns:
            self.fields.append(field_CBnq)
            field_CBnq = mix(field_CBnq, upper + lower, first, skip=self.errors.skip)
        field_CBnq = shift(field_CBnq, output_phases(self.phases, self.errors).unsqueeze(-1))
        self.fields.append(field_CBnq)
        return field_CBnq

    def answer(self, back_CBmn: Tensor) -> dict[str, Tensor]:
        """Return how outputs answer to all phases, float [C, B, D, m, q] by setting.

        Args:
            back_CBmn: What becomes of the light behind the meshes, [C, B, m, n].
        """
        output = _product(back_CBmn.mT.unsqueeze(-1), self.fields[-1].unsqueeze(-2))
        # A single mode meets no interferometer.
        theta, phi = [output[:, :, :0]], [output[:, :, :0]]
        back_CBmn = shift(back_CBmn, output_phases(self.phases, self.errors).unsqueeze(-2))
        for (first, _, (upper, lower)), field in zip(
            reversed(self.columns), reversed(self.fields[:-1]), strict=True
        ):
            last = first + 2 * upper.shape[2]
            pairs = _by_two(back_CBmn[..., first:last]).transpose(2, 3)
            arriving = _by_two(field[:, :, first:last].mT).movedim(2, -1)
            # A push_pull MZI has -theta on its lower arm, a one_arm one 2 theta.
            turned = upper - lower if self.phases.shifters == "push_pull" else 2 * lower
            theta.append(_product(pairs @ turned, arriving))
            before = pairs @ (upper + lower)
            phi.append(_product(before[..., :1], arriving[..., :1, :]))
            back_CBmn = torch.cat(
                [
                    back_CBmn[..., :first] * self.errors.skip,
                    before.transpose(2, 3).flatten(-2),
                    back_CBmn[..., last:] * self.errors.skip,
                ],
                dim=-1,
            )
        # Behind send(), what becomes of the light that enters the meshes.
        self.back = back_CBmn / self.mean
        return {
            f"{self.name}.theta": torch.cat(theta[::-1], dim=2),
            f"{self.name}.phi": torch.cat(phi[::-1], dim=2),
            f"{self.name}.output": output,
        }


SINGLE = (torch.float32, torch.complex64)
"""Types of single precision."""


def _by_two(modes: Tensor) -> Tensor:
    """Pair modes: [..., 2 M] -> [..., M, 2]."""
    return modes.reshape(*modes.shape[:-1], -1, 2)


def _product(back: Tensor, field: Tensor) -> Tensor:
    """Return the real part of i back @ field, [..., m, q]."""
    return -(back.real @ field.imag + back.imag @ field.real)
