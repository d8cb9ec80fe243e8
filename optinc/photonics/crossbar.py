r"""Crossbar: a sparse matrix of splitters, attenuators and detectors, without a mesh.

    direct       modulator --[1:k]--[a]--[>|--\                 an input lights k leaves, one for
                               |----[a]--[>|- +(+) \            each nonzero weight; intensities
                               \----[a]--[>|- -     (-)-- I     become currents, which add up in
                 reference --[1:b]--[a]--[>|-- -(-) /           wires; the diode gives the sign

    homodyne     modulator --[1:k]--[a]--[p]--\
                               \----[a]--[p]- [f:1]--[homodyne detector]   fields add up in a
                 reference --[1:b]--[a]--[p]--/                            combiner; p is 0 or pi

The form of light is ``optinc.chip.detection``. Intensities need no local oscillator, no combiner
and no crossing, as wires cross where waveguides would, and no phase between two ways matters; an
input that has a sign cannot be sent. Fields have a sign, and every way needs its phase trimmed.

An attenuator is an MZI of which the output is used that is bright without any phase: the cross
output of ``one_arm``, the bar output of ``push_pull``. It passes the amplitude cos(theta), and the
intensity cos(theta)^2. At theta = 0, where the largest weight of every output lies, neither phases
nor couplers change it to first order: an error d of the phase between the arms leaves cos(d / 2),
those e1 and e2 of the couplers cos(e1 + e2) (``one_arm``) or cos(e1 - e2). Its heater is off.
"""

# Shape suffixes: C chips, A attenuators, K outputs of a splitter tree, S = K - 1 stages.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.parts import mzi
from optinc.photonics.parts.coupler import EVEN
from optinc.photonics.parts.phase_shifter import FULL_TURN, add_crosstalk, quantize


@dataclass(frozen=True, kw_only=True)
class AttenuatorErrors:
    """Static errors of the attenuators of C drawn chips; None is no error.

    Attributes:
        couplers_CA2: Splitting angles of the two couplers minus pi/4, in rad.
        arms_CA2: Errors of the phases of the two arms in rad.
        loss_CA2: Losses of the two arms in dB.
        extinction: Extinction in dB of every MZI's bar and cross states.
        phase_bits: Resolution of the DACs over 2 pi.
        crosstalk: Share of a shifter's phase that each of its neighbours sees; the attenuators
            stand above each other in their order.
    """

    couplers_CA2: Tensor | None = None
    arms_CA2: Tensor | None = None
    loss_CA2: Tensor | None = None
    extinction: float | None = None
    phase_bits: int | None = None
    crosstalk: float = 0.0


def transmit(theta_A: Tensor, errors: AttenuatorErrors, *, shifters: Shifters) -> Tensor:
    """Return the amplitudes that attenuators pass, relative to the phase that settings bring.

    Args:
        theta_A: Settings in rad, 0 (all light passes) to pi/2 (none does).
        errors: Errors of the chips.
        shifters: ``one_arm``: one shifter an attenuator; ``push_pull``: two.

    Returns:
        Complex [C or 1, A], without errors cos(theta); differentiable in settings and errors.
    """
    loss = errors.loss_CA2
    if loss is None and errors.extinction is not None:
        loss = torch.zeros(1, *theta_A.shape, 2, dtype=theta_A.dtype, device=theta_A.device)
    amplitudes = None if loss is None else mzi.arm_amplitudes(loss, extinction=errors.extinction)
    couplers = errors.couplers_CA2
    matrices = mzi.transfer(
        _arms(theta_A, errors, shifters),
        torch.zeros_like(theta_A),
        coupler_angles_2=None if couplers is None else EVEN + couplers,
        arm_amplitudes_2=amplitudes,
        shifters=shifters,
    )
    if shifters == "push_pull":
        return matrices[..., 0, 0]
    # M(theta, 0) of a one_arm MZI has i exp(i theta) cos(theta) at its cross output.
    turned = torch.polar(torch.ones_like(theta_A), -theta_A)
    return -1j * turned * matrices[..., 1, 0]


def _arms(theta_A: Tensor, errors: AttenuatorErrors, shifters: Shifters) -> Tensor:
    """Return the phases of the arms, [C or 1, A, 2] in rad."""
    arms_A2 = mzi.arm_phases(theta_A, shifters=shifters)
    driven = slice(0 if shifters == "push_pull" else 1, 2)
    set_H = quantize(arms_A2[..., driven].flatten(), bits=errors.phase_bits)
    # Driven to both sides: what is a share of a negative phase is negative.
    set_H = torch.where(set_H > FULL_TURN / 2, set_H - FULL_TURN, set_H)
    heated_AH = add_crosstalk(set_H, share=errors.crosstalk).reshape(len(theta_A), -1)
    made_A2 = torch.cat([arms_A2[..., : driven.start], heated_AH], dim=-1).unsqueeze(0)
    if errors.arms_CA2 is None:
        return made_A2
    # An arm without a shifter has no error of one.
    has_shifter = torch.tensor([shifters == "push_pull", True], device=theta_A.device)
    return made_A2 + errors.arms_CA2 * has_shifter


def settings_of(passed_A: Tensor, *, intensities: bool) -> Tensor:
    """Return the settings theta in rad of attenuators that pass shares of amplitude or intensity.

    Args:
        passed_A: Shares from 0 to 1, float64.
        intensities: Whether they are shares of the intensity, cos(theta)^2.
    """
    amplitudes_A = passed_A.clamp(0.0, 1.0)
    return torch.arccos(amplitudes_A.sqrt() if intensities else amplitudes_A)


def uneven_tree(power_K: Tensor, imbalances_S: Tensor) -> Tensor:
    """Return what uneven stages multiply the amplitudes behind a designed splitter tree by.

    The tree is that of :mod:`optinc.photonics.parts.splitter`, but a stage is made to give each
    side the power that the outputs behind it ask for, in place of the same power to all.

    Args:
        power_K: Power that each output asks for, above 0, [K].
        imbalances_S: Factors on the ratio of powers behind each of the K - 1 stages, [C, S].

    Returns:
        Real [C, K]; 1 where the factors are 1.
    """
    ways = len(power_K)
    if ways == 1:
        return torch.ones(len(imbalances_S), 1, dtype=imbalances_S.dtype)
    upper = (ways + 1) // 2
    share = power_K[:upper].sum() / power_K.sum()
    factor, below = imbalances_S[:, :1], imbalances_S[:, 1:]
    # The ratio r of the sides becomes r x: shares r x / (1 + r x) and 1 / (1 + r x).
    whole = 1 - share + share * factor
    return torch.cat(
        [
            (factor / whole).sqrt() * uneven_tree(power_K[:upper], below[:, : upper - 1]),
            (1 / whole).sqrt() * uneven_tree(power_K[upper:], below[:, upper - 1 :]),
        ],
        dim=1,
    )
