"""NaN and infinity in gradients: the policy, and the server and position of the first one."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.errors import NonFiniteGradientError, SkipStep
from optinc.reducers.group import ServerGroup
from optinc.signal.block_quantizer import NonFinitePolicy


def refuses(nonfinite_blocks: int, policy: NonFinitePolicy) -> bool:
    """Return whether non-finite blocks are an error under a policy.

    Raises:
        SkipStep: If there are non-finite blocks and the policy is ``skip_step``.
    """
    if nonfinite_blocks and policy == "skip_step":
        raise SkipStep(f"{nonfinite_blocks} blocks hold NaN or infinity")
    return nonfinite_blocks > 0 and policy == "raise"


def first_nonfinite(gradients_NP: Tensor) -> tuple[int, int, float]:
    """Return server, position and value of the first NaN, infinity or value beyond float32."""
    for server, gradient_P in enumerate(gradients_NP):
        positions = (~torch.isfinite(gradient_P.to(torch.float32))).nonzero()
        if len(positions):
            position = int(positions[0])
            return server, position, float(gradient_P[position])
    raise AssertionError("a block scale is not finite although every gradient value is")


def first_nonfinite_of(gradient_P: Tensor, group: ServerGroup) -> NonFiniteGradientError:
    """Return the error for the first non-finite value of all real servers; equal on all of them."""
    finite = bool(torch.isfinite(gradient_P.to(torch.float32)).all())
    found = None if finite else first_nonfinite(gradient_P.unsqueeze(0))
    for server, place in enumerate(group.gather_objects(found)):
        if place is not None:
            _, position, value = place
            return NonFiniteGradientError(server=server, position=position, value=value)
    raise AssertionError("a block scale is not finite although every gradient value is")
