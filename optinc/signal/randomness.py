"""Random generators by seed, reduction and position, independent of earlier draws."""

from __future__ import annotations

import torch


def generator_of(
    seed: int, *, reduction: int, place: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the random generator of one position in one reduction.

    Virtual servers, real servers and a resumed training draw equal numbers.

    Args:
        seed: Seed shared by all reductions.
        reduction: Number of the reduction.
        place: Position of the first value in the whole gradient, or a server.
        device: Where the numbers are drawn.
    """
    generator = torch.Generator(device)
    # A large odd factor for each keeps neighbouring reductions and places apart.
    generator.manual_seed((seed * 0x9E3779B1 + reduction * 0x85EBCA77 + place) % 2**63)
    return generator
