"""NaN and infinity in gradients: the policy, and the server and position of the first one."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.errors import NonFiniteGradientError, SkipStep
from optinc.reducers.group import ServerGroup
from optinc.signal.block_quantizer import NonFinitePolicy

FLOAT32_MAX = torch.finfo(torch.float32).max


def refuses(nonfinite_blocks: int, policy: NonFinitePolicy) -> bool:
    """Return whether non-finite blocks are an error under a policy.

    Raises:
        SkipStep: If there are non-finite blocks and the policy is ``skip_step``.
    """
    if nonfinite_blocks and policy == "skip_step":
        raise SkipStep(f"{nonfinite_blocks} blocks hold NaN or infinity")
    return nonfinite_blocks > 0 and policy == "raise"


def is_finite(values: Tensor, largest: float = FLOAT32_MAX) -> Tensor:
    """Return which values are numbers up to ``largest`` in float32, of the same shape."""
    return values.to(torch.float32).abs() <= largest


def first_nonfinite(
    gradients_NP: Tensor, *, largest: float = FLOAT32_MAX
) -> tuple[int, int, float]:
    """Return server, position and value of the first NaN, infinity or value beyond float32.

    Args:
        gradients_NP: Float tensor [N, P], a row a server.
        largest: Largest magnitude that counts as finite, :attr:`BlockQuantizer.largest`.
    """
    for server, gradient_P in enumerate(gradients_NP):
        positions = (~is_finite(gradient_P, largest)).nonzero()
        if len(positions):
            position = int(positions[0])
            return server, position, float(gradient_P[position])
    raise AssertionError("a block scale is not finite although every gradient value is")


def first_nonfinite_of(
    gradient_P: Tensor, group: ServerGroup, *, largest: float = FLOAT32_MAX
) -> NonFiniteGradientError:
    """Return the error for the first non-finite value of all real servers; equal on all of them."""
    finite = bool(is_finite(gradient_P, largest).all())
    found = None if finite else first_nonfinite(gradient_P.unsqueeze(0), largest=largest)
    for server, place in enumerate(group.gather_objects(found)):
        if place is not None:
            _, position, value = place
            return NonFiniteGradientError(server=server, position=position, value=value)
    raise AssertionError("a block scale is not finite although every gradient value is")
