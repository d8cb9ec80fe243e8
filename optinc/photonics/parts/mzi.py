r"""Mach-Zehnder interferometer (MZI): two couplers with phase shifters before and between them.

    mode m    --[phi]--\         /--[upper]--\         /--  mode m
                        [first]               [second]
    mode m+1  ---------/         \--[lower]--/         \--  mode m+1

The matrix is that of the parts in this order, with its common phase. The two forms differ
in the phases of the arms and in the second coupler:

- ``push_pull``: +theta and -theta, second coupler the inverse of the first. With ideal couplers
  exactly T(theta, phi) of :mod:`optinc.photonics.mzi`; theta = 0 is the bar state.
- ``one_arm``: 2 theta on the lower arm, identical couplers. With ideal couplers
  i exp(i theta) [[-exp(i phi) sin(theta), cos(theta)], [exp(i phi) cos(theta), sin(theta)]];
  theta = 0 is the cross state.
"""

# Shape suffixes: C chips; any further dimensions follow, and 2 stands for upper and lower arm, or
# first and second coupler.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.parts.coupler import EVEN


def arm_phases(theta: Tensor, *, shifters: Shifters) -> Tensor:
    """Return the phases in rad of upper and lower arm, [..., 2], for theta [...] in rad."""
    if shifters == "push_pull":
        return torch.stack([theta, -theta], dim=-1)
    return torch.stack([torch.zeros_like(theta), 2 * theta], dim=-1)


def arm_amplitudes(loss_2: Tensor, *, extinction: float | None = None) -> Tensor:
    """Return the amplitudes that the arms transmit.

    Finite extinction is the absorption of a phase shifter on the lower arm: where the other arm
    transmits 1 and this one rho, dark and bright output of the bar and of the cross state differ
    by (1 + rho)^2 / (1 - rho)^2 in power (any textbook on modulators).

    Args:
        loss_2: Loss of each arm in dB, [..., 2].
        extinction: Power of a bright over a dark output in dB; None for infinity.

    Returns:
        Amplitudes at most 1, [..., 2].
    """
    amplitudes = 10.0 ** (-loss_2 / 20)
    if extinction is None:
        return amplitudes
    # (r - 1) / (r + 1) with the ratio r of the amplitudes, written so that 0 dB gives 0.
    dark = 10.0 ** (-extinction / 20)
    absorbing = torch.tensor([1.0, (1 - dark) / (1 + dark)], dtype=loss_2.dtype)
    return amplitudes * absorbing.to(loss_2.device)


def transfer(
    arm_phases_2: Tensor,
    phi: Tensor,
    *,
    coupler_angles_2: Tensor | None = None,
    arm_amplitudes_2: Tensor | None = None,
    shifters: Shifters,
) -> Tensor:
    """Return the transfer matrices of imperfect MZIs.

    Args:
        arm_phases_2: Phases in rad of upper and lower arm as light sees them, [..., 2].
        phi: External phase in rad, [...].
        coupler_angles_2: Angles in rad of first and second coupler, [..., 2]; ``push_pull`` takes
            the inverse of the second. None for pi/4.
        arm_amplitudes_2: Amplitudes that the arms transmit, [..., 2], from :func:`arm_amplitudes`;
            None for 1.
        shifters: Whether the second coupler is the inverse of a first one.

    Returns:
        Complex matrices [..., 2, 2]; the arguments are broadcast against each other.
    """
    amplitudes = torch.ones_like(arm_phases_2) if arm_amplitudes_2 is None else arm_amplitudes_2
    angles = torch.full_like(arm_phases_2, EVEN) if coupler_angles_2 is None else coupler_angles_2
    arms = amplitudes * torch.polar(torch.ones_like(arm_phases_2), arm_phases_2)
    upper, lower = arms.unbind(-1)
    through, across = torch.cos(angles), torch.sin(angles)
    (through_1, through_2), (across_1, across_2) = through.unbind(-1), across.unbind(-1)
    if shifters == "push_pull":
        across_2 = -across_2
    entering = torch.polar(torch.ones_like(phi), phi)
    bar_0 = (through_2 * upper * through_1 - across_2 * lower * across_1) * entering
    cross_0 = 1j * (across_2 * upper * through_1 + through_2 * lower * across_1) * entering
    cross_1 = 1j * (through_2 * upper * across_1 + across_2 * lower * through_1)
    bar_1 = through_2 * lower * through_1 - across_2 * upper * across_1
    # Only the first column meets phi: the other one is repeated where phi has more entries.
    upper_row = torch.stack([bar_0, cross_1.expand_as(bar_0)], dim=-1)
    lower_row = torch.stack([cross_0, bar_1.expand_as(bar_0)], dim=-1)
    return torch.stack([upper_row, lower_row], dim=-2)


def matrix(
    theta: Tensor,
    phi: Tensor,
    *,
    shifters: Shifters = "push_pull",
    coupler_angles_2: Tensor | None = None,
    arm_amplitudes_2: Tensor | None = None,
) -> Tensor:
    """Return the transfer matrices of MZIs set to theta and phi.

    Args:
        theta: Internal phase in rad, [...].
        phi: External phase in rad, [...].
        shifters: Form of the MZI, see the module.
        coupler_angles_2: Angles in rad of first and second coupler, [..., 2]; None for pi/4.
        arm_amplitudes_2: Amplitudes that the arms transmit, [..., 2]; None for 1.

    Returns:
        Complex matrices [..., 2, 2].
    """
    return transfer(
        arm_phases(theta, shifters=shifters),
        phi,
        coupler_angles_2=coupler_angles_2,
        arm_amplitudes_2=arm_amplitudes_2,
        shifters=shifters,
    )
