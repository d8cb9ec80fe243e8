"""Random numbers that are a function of what they are for, not of what was drawn before."""

from __future__ import annotations

import torch


def generator_of(
    seed: int, *, reduction: int, place: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a source of random numbers for one place in one reduction.

    Virtual and real servers draw the same numbers, and so does a training that is resumed.

    Args:
        seed: Seed of all of them.
        reduction: Number of the reduction.
        place: Position of the first value in the whole gradient, or a server.
        device: Where the numbers are drawn.
    """
    generator = torch.Generator(device)
    # A large odd factor for each keeps neighbouring reductions and places apart.
    generator.manual_seed((seed * 0x9E3779B1 + reduction * 0x85EBCA77 + place) % 2**63)
    return generator
