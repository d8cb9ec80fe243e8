from __future__ import annotations

import pytest
import torch

from optinc.onn.network import OpticalNetwork


def test_layers_scales_and_relu_are_as_the_card_describes() -> None:
    torch.manual_seed(0)
    network = OpticalNetwork(
        [2, 3, 1], input_scale=0.5, input_offset=-1.0, output_scale=2.0, output_offset=1.5
    )
    averages = torch.tensor([[0.0, 3.0], [1.5, 0.25]])
    first, second = network.linears
    hidden = torch.relu((averages * 0.5 - 1.0) @ first.weight.T + first.bias)
    expected = (hidden @ second.weight.T + second.bias) * 2.0 + 1.5
    assert torch.allclose(network(averages), expected)
    assert set(network.state_dict()) == {
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    }


@pytest.mark.parametrize("structure", [[4], [4, 0, 4]])
def test_impossible_structures_are_refused(structure: list[int]) -> None:
    with pytest.raises(ValueError, match="at least two positive widths"):
        OpticalNetwork(
            structure, input_scale=1.0, input_offset=0.0, output_scale=1.0, output_offset=0.0
        )
