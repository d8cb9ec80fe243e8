from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from optinc.onn.approximation import approximation_error, blocks_by_size, factorize, project_layers
from optinc.onn.network import OpticalNetwork
from optinc.onn.training.gauss_newton import OutputGradients, Wanted, smallest_shares

STRUCTURE = (3, 8, 8, 4, 2)
APPROXIMATED = [(), (2,), (2, 3), (1, 2, 3, 4)]


def network_of(approximated: Sequence[int]) -> OpticalNetwork:
    torch.manual_seed(3)
    network = OpticalNetwork(
        STRUCTURE, input_scale=0.5, input_offset=-0.4, output_scale=3.0, output_offset=0.2
    )
    for linear in network.linears:
        torch.nn.init.normal_(linear.bias, std=0.3)
    project_layers(network.linears, approximated)
    return network.requires_grad_(False)


def wanted_of(count: int = 12) -> Wanted:
    generator = torch.Generator().manual_seed(5)
    return Wanted(
        averages_RK=3 * torch.rand(count, 3, generator=generator),
        output_R=torch.randint(2, (count,), generator=generator),
        sign_R=torch.randint(2, (count,), generator=generator).float() * 2 - 1,
        continued_R=torch.zeros(count, dtype=torch.bool),
    )


def moved(network: OpticalNetwork, wanted: Wanted) -> Tensor:
    """The wanted outputs, times their signs."""
    output_R = network(wanted.averages_RK).gather(1, wanted.output_R[:, None]).squeeze(1)
    return output_R * wanted.sign_R


def jacobian(network: OpticalNetwork, wanted: Wanted, approximated: Sequence[int]) -> Tensor:
    """Gradients by autograd, in weights, or scales and angles, and biases: float64 [R, P]."""
    network = network.double()
    wanted = Wanted(
        wanted.averages_RK.double(), wanted.output_R, wanted.sign_R.double(), wanted.continued_R
    )
    parameters: dict[str, Tensor] = {}
    angle_weights: dict[str, float] = {}
    parts: dict[str, tuple[object, Tensor, Tensor]] = {}
    for i, linear in enumerate(network.linears):
        parameters[f"{i}.bias"] = linear.bias.clone()
        if i + 1 not in approximated:
            parameters[f"{i}.weight"] = linear.weight.clone()
            continue
        for blocks in blocks_by_size(*linear.weight.shape).values():
            for block in blocks:
                rows = slice(block.row, block.row + block.size)
                columns = slice(block.column, block.column + block.size)
                (scale,), (unitary,) = factorize(linear.weight[rows, columns].unsqueeze(0))
                name = f"{i}.{block.row}.{block.column}"
                parts[name] = (rows, columns), scale, unitary
                parameters[f"{name}.scale"] = scale.clone()
                parameters[f"{name}.angles"] = torch.zeros(block.size, block.size).double()
                angle_weights[f"{name}.angles"] = float(1 / (2 * scale.square().mean()))

    def outputs(values: dict[str, Tensor]) -> Tensor:
        weights = {}
        for i, linear in enumerate(network.linears):
            weights[f"layers.{i}.bias"] = values[f"{i}.bias"]
            if i + 1 not in approximated:
                weights[f"layers.{i}.weight"] = values[f"{i}.weight"]
                continue
            weight = torch.zeros_like(linear.weight)
            for name, (where, _, unitary) in parts.items():
                if name.startswith(f"{i}."):
                    upper = values[f"{name}.angles"].triu(1)
                    block = torch.linalg.matrix_exp(upper - upper.T) @ unitary
                    weight[where] = values[f"{name}.scale"][:, None] * block
            weights[f"layers.{i}.weight"] = weight
        out = functional_call(network, weights, (wanted.averages_RK,))
        return out.gather(1, wanted.output_R[:, None]).squeeze(1) * wanted.sign_R

    found = jacrev(outputs)(parameters)
    return torch.cat(
        [value.flatten(1) * angle_weights.get(name, 1.0) ** 0.5 for name, value in found.items()], 1
    )


@pytest.mark.parametrize("approximated", APPROXIMATED, ids=str)
def test_the_kernel_is_that_of_the_gradients(approximated: Sequence[int]) -> None:
    wanted = wanted_of()
    gradients = OutputGradients(network_of(approximated), wanted, approximated)
    expected = jacobian(network_of(approximated), wanted, approximated)
    kernel = expected @ expected.T
    kernel /= kernel.diagonal().mean()
    # In two parts: what is known is not computed again, nor mixed up.
    gradients.columns(torch.tensor([3, 1]))
    torch.testing.assert_close(gradients.columns(torch.arange(12)), kernel, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        gradients.columns(torch.tensor([7, 3])), kernel[:, [7, 3]], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("approximated", APPROXIMATED, ids=str)
def test_outputs_move_as_asked_and_layers_keep_their_form(approximated: Sequence[int]) -> None:
    network, wanted = network_of(approximated), wanted_of()
    gradients = OutputGradients(network, wanted, approximated)
    before_R = moved(network, wanted)
    asked_R = torch.linspace(-1e-4, 1e-4, 12).double()
    shares_R = smallest_shares(gradients, asked_R, damping=1e-7, start_R=torch.zeros_like(asked_R))
    gradients.apply(shares_R)
    change_R = moved(network, wanted).double() - before_R
    predicted_R = gradients.columns(torch.arange(12)) @ shares_R
    torch.testing.assert_close(change_R, predicted_R, atol=8e-6, rtol=0.02)
    assert bool((change_R > asked_R - 8e-6).all())
    for index in approximated:
        assert approximation_error(network.linears[index - 1].weight) < 1e-6
    gradients.apply(torch.zeros_like(shares_R))
    torch.testing.assert_close(moved(network, wanted), before_R, atol=2e-6, rtol=0)


@pytest.mark.parametrize("damping", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_the_shares_are_those_of_the_smallest_change(damping: float, start: float) -> None:
    gradients = OutputGradients(network_of(()), wanted_of(40), ())
    residual_R = torch.linspace(-1, 1, 40).double()
    shares_R = smallest_shares(
        gradients, residual_R, damping=damping, start_R=torch.full_like(residual_R, start)
    )
    missing_R = residual_R - gradients.columns(torch.arange(40)) @ shares_R
    # Where its derivative in u vanishes.
    torch.testing.assert_close(
        shares_R * damping, missing_R.clamp(min=0), atol=1e-9 + 1e-6 * damping, rtol=1e-6
    )
    assert 0 < int((shares_R > 0).sum()) < 40


def test_what_moves_far_enough_by_itself_is_left_alone() -> None:
    network, wanted = network_of(()), wanted_of()
    gradients = OutputGradients(network, wanted, ())
    nothing_R = torch.zeros(12).double()
    shares_R = smallest_shares(gradients, nothing_R - 0.1, damping=0.1, start_R=nothing_R)
    assert torch.equal(shares_R, nothing_R)


def dark_network() -> OpticalNetwork:
    """One whose second layer is dark for all inputs, its second neuron nearly lit."""
    network = OpticalNetwork(
        (1, 1, 2, 1), input_scale=1.0, input_offset=0.0, output_scale=1.0, output_offset=0.0
    )
    for linear in network.linears:
        torch.nn.init.ones_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    network.linears[1].bias.data = torch.tensor([-30.0, -4.0])
    network.linears[2].weight.data = torch.tensor([[1.0, 2.0]])
    return network.requires_grad_(False)


@pytest.mark.parametrize(
    ("sign", "continued", "beyond"),
    # The nearest neuron is 1.5 from being lit, and counts twice; its light helps an output to rise.
    [(1.0, True, -3.0), (1.0, False, 0.0), (-1.0, True, 0.0)],
)
def test_a_dark_output_is_continued_where_light_helps(
    sign: float, continued: bool, beyond: float
) -> None:
    wanted = Wanted(
        averages_RK=torch.tensor([[2.5]]),
        output_R=torch.tensor([0]),
        sign_R=torch.tensor([sign]),
        continued_R=torch.tensor([continued]),
    )
    network = dark_network()
    gradients = OutputGradients(network, wanted, ())
    assert gradients.beyond_R.tolist() == [beyond]
    residual_R = (0.1 - gradients.beyond_R).double()
    nothing_R = torch.zeros_like(residual_R)
    gradients.apply(smallest_shares(gradients, residual_R, damping=1e-3, start_R=nothing_R))
    lit = torch.relu(network.linears[1](torch.relu(network.linears[0](wanted.averages_RK))))
    assert bool((lit > 0).any()) == bool(beyond)
    assert float(moved(network, wanted)) > 0.09
