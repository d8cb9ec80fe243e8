r"""Splitters 1:k and combiners k:1, trees of 1:2 stages.

                       /--- out 0
           /---[1:2]---
    in ---           \--- out 1         every output sqrt(1/k) in, without losses
           \-------------- out 2         k = 3: the first stage splits 2:1

A tree is as balanced as k allows, ceil(log2 k) stages deep; a stage gives each side power in
proportion to its outputs. A combiner is the same tree from right to left, so that k fields become
their sum over sqrt(k): of k equal fields in phase no light is lost, of others some is.
"""

# Shape suffixes: C chips, S = k - 1 stages of a tree (each before those below it, upper ones
# first), K outputs of a splitter.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.units import power_of_loss


@dataclass(frozen=True, kw_only=True)
class Splitter:
    """A tree of 1:2 stages, or the combiner that is its mirror image.

    Attributes:
        ways: Number k of outputs.
        excess_loss: Loss of each stage in dB, besides splitting.
        imbalance: Sigma in dB of the ratio of the powers behind a stage, drawn once a chip.
    """

    ways: int
    excess_loss: float = 0.0
    imbalance: float = 0.0

    @classmethod
    def of(cls, settings: ChipSettings, *, ways: int) -> Splitter:
        """Return a splitter of a chip."""
        return cls(
            ways=ways,
            excess_loss=settings.splitter_loss,
            imbalance=settings.splitter_imbalance,
        )

    @property
    def stages(self) -> int:
        """Depth of the tree: stages on the longest way."""
        return (self.ways - 1).bit_length()

    @property
    def loss(self) -> float:
        """Loss in dB from the input to an output on the longest way, splitting included."""
        return 10 * math.log10(self.ways) + self.stages * self.excess_loss

    def amplitudes(self, standard_normal_CS: Tensor) -> Tensor:
        """Return the share of the input's amplitude at every output.

        Args:
            standard_normal_CS: Standard normal draws of the stages, [C, k - 1].

        Returns:
            Real [C, K], by reciprocity also the weights of a combiner's inputs.
        """
        ratios = 10.0 ** (self.imbalance * standard_normal_CS / 10)
        return _tree(self.ways, ratios, power_of_loss(self.excess_loss)).sqrt()


def split(field: Tensor, amplitudes_K: Tensor) -> Tensor:
    """Return the outputs [..., K] of splitters with inputs [...]."""
    return field.unsqueeze(-1) * amplitudes_K


def combine(field_K: Tensor, amplitudes_K: Tensor) -> Tensor:
    """Return the outputs [...] of combiners with inputs [..., K]."""
    return (field_K * amplitudes_K).sum(-1)


def _tree(ways: int, ratio_S: Tensor, transmission: float) -> Tensor:
    """Return the share of the power at every output, [..., K], for ratios with errors [..., S]."""
    if ways == 1:
        return torch.ones(*ratio_S.shape[:-1], 1, dtype=ratio_S.dtype, device=ratio_S.device)
    upper = (ways + 1) // 2
    lower = ways - upper
    ratio = ratio_S[..., :1] * upper / lower
    below = ratio_S[..., 1:]
    halves = [
        ratio / (1 + ratio) * _tree(upper, below[..., : upper - 1], transmission),
        1 / (1 + ratio) * _tree(lower, below[..., upper - 1 :], transmission),
    ]
    return transmission * torch.cat(halves, dim=-1)
