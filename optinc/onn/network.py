"""The multilayer perceptron f, whose layers are meshes of interferometers (Table I, Fig. 2)."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


class OpticalNetwork(nn.Module):
    """Linear layers (MZI meshes) with ReLU between them.

    A ReLU needs the sign of an amplitude, so it stands in the electronics between the detectors of
    a layer and the modulators of the next. A bias is a reference beam: without it a ReLU network is
    homogeneous and cannot place thresholds. Layer 1 receives ``A_k * input_scale + input_offset``;
    the last layer emits ``(amplitude - output_offset) / output_scale``.

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs, for example
            ``[4, 64, 128, 256, 128, 64, 4]`` (Table I).
        input_scale: Factor from PAM4 amplitudes to the amplitude fed to layer 1.
        input_offset: Offset of the amplitude fed to layer 1.
        output_scale: Factor from the amplitude of the last layer to PAM4 amplitudes.
        output_offset: Offset of the PAM4 amplitudes.

    Raises:
        ValueError: If there is no layer or a width is not positive.
    """

    activation = "relu"

    def __init__(
        self,
        structure: Sequence[int],
        *,
        input_scale: float,
        input_offset: float,
        output_scale: float,
        output_offset: float,
    ) -> None:
        super().__init__()
        if len(structure) < 2 or min(structure) < 1:
            raise ValueError(f"structure must hold at least two positive widths, got {structure}")
        self.structure = tuple(structure)
        self.input_scale = input_scale
        self.input_offset = input_offset
        self.output_scale = output_scale
        self.output_offset = output_offset
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(self.structure))

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, from the ONN inputs to the outputs."""
        return [cast("nn.Linear", layer) for layer in self.layers]

    def forward(self, averages_PK: Tensor) -> Tensor:
        """Map averages A to analog outputs.

        Args:
            averages_PK: ONN inputs, float [..., K], in PAM4 amplitudes of a merged group.

        Returns:
            Outputs, float [..., M], in PAM4 amplitudes.
        """
        signal = averages_PK * self.input_scale + self.input_offset
        for i, layer in enumerate(self.linears):
            signal = layer(signal if i == 0 else torch.relu(signal))
        return signal * self.output_scale + self.output_offset
