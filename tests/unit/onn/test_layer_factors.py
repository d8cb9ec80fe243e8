from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from optinc.onn.approximation import approximate
from optinc.onn.layer_factors import LayerFactors, factor
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import BiasForm


def layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    return linear


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def check_passive(factors: LayerFactors) -> None:
    for name, value in factors.attenuations.items():
        assert (value.abs() <= 1).all(), name
    for name, unitary in factors.unitaries.items():
        assert torch.allclose(unitary @ unitary.mT, torch.eye(unitary.shape[1]).double()), name


@pytest.mark.parametrize(("outputs", "inputs"), [(4, 7), (7, 4), (5, 5), (1, 3)])
def test_an_svd_layer_takes_its_bias_in_through_one_more_port(outputs: int, inputs: int) -> None:
    linear = layer(random(outputs, inputs), 30 * random(outputs))
    factors = factor(linear, approximated=False, bias="port")
    check_passive(factors)
    left, right = factors.unitaries["left"][0], factors.unitaries["right"][0]
    attenuation = factors.attenuations["attenuation"]
    assert "bias" not in factors.attenuations
    assert right.shape == (inputs + 1, inputs + 1)
    rank = len(attenuation)
    transfer = left[:, :rank] * attenuation @ right[:rank] * factors.layer.gain
    assert torch.allclose(transfer[:, :-1], linear.weight)
    assert torch.allclose(transfer[:, -1] * factors.layer.reference, linear.bias)
    # The bias asks for at most 3 dB more gain than the weight alone.
    largest = float(torch.linalg.matrix_norm(linear.weight, 2))
    assert largest <= factors.layer.gain * (1 + 1e-12) <= math.sqrt(2) * largest * (1 + 1e-9)


@pytest.mark.parametrize("bias", ["port", "attenuator"])
def test_layers_without_weight_or_bias_are_factored_too(bias: BiasForm) -> None:
    for weight, offset in ((random(3, 4), torch.zeros(3)), (torch.zeros(3, 4), random(3))):
        factors = factor(layer(weight, offset), approximated=False, bias=bias)
        check_passive(factors)
        assert all(torch.isfinite(value).all() for value in factors.attenuations.values())
        assert factors.layer.gain > 0
        assert factors.layer.reference > 0


def test_gains_make_up_for_splitters_and_combiners() -> None:
    weight = approximate(random(8, 2))
    factors = factor(layer(weight, random(8)), approximated=True, bias="port")
    check_passive(factors)
    assert (factors.layer.form, factors.layer.bias) == ("sigma_u", "attenuator")
    # Four blocks of 2 x 2: each input is split 1:4, which halves the amplitude.
    largest_row = float(weight.norm(dim=1).max())
    assert factors.layer.gain == pytest.approx(2 * largest_row)
    assert factors.layer.gain_db == pytest.approx(20 * math.log10(2 * largest_row))


def test_a_diagonal_layer_has_signed_attenuators_and_no_unitary() -> None:
    linear = layer(torch.diag(torch.tensor([2.0, -4.0, 0.0])), random(3))
    factors = factor(linear, approximated=True, bias="port")
    assert factors.layer.form == "diagonal"
    assert not factors.unitaries
    assert factors.attenuations["blocks3.attenuation"].tolist() == [[0.5, -1.0, 0.0]]
    assert factors.layer.gain == 4
    # A weight that is not said to be in Sigma U form keeps its meshes.
    assert factor(linear, approximated=False, bias="port").layer.form == "svd"


@pytest.mark.parametrize(
    ("name", "paper", "bare", "built"),
    [
        ("b8_n4_half_even_robust", 9_940, 5_182, 5_556),
        ("b8_n8_half_even_robust", 36_957, 18_875, 19_575),
        ("b8_n4_half_even_smallest", 484, 484, 534),
        ("b8_n4_half_even_all_layers", 41_664, 41_664, 42_308),
    ],
)
def test_counts_follow_what_is_built(name: str, paper: int, bare: int, built: int) -> None:
    onn = load_named(name)
    parts = onn.parts
    assert (parts.mzis, parts.bare_mzis, parts.built_mzis) == (paper, bare, built)
    assert parts.mzis == onn.card.mzi_count
    # Counted once more, on what each layer is factored into.
    found = 0
    for index, linear in enumerate(onn.network.linears, start=1):
        approximated = index in onn.card.approximated_layers
        factors = factor(linear, approximated=approximated, bias="port")
        for unitary in factors.unitaries.values():
            batch, size, _ = unitary.shape
            found += batch * size * (size - 1) // 2
        found += sum(value.numel() for value in factors.attenuations.values())
    assert found == built


@pytest.mark.parametrize(
    ("name", "most"), [("b8_n4_half_even_smallest", 27.4), ("b16_n4_half_even_smallest", 46.3)]
)
def test_the_amplifiers_of_the_smallest_onns_need_up_to_27_and_46_db(
    name: str, most: float
) -> None:
    onn = load_named(name)
    gains = [
        factor(linear, approximated=index in onn.card.approximated_layers, bias="attenuator")
        for index, linear in enumerate(onn.network.linears, start=1)
    ]
    assert max(factors.layer.gain_db for factors in gains) == pytest.approx(most, abs=0.05)
