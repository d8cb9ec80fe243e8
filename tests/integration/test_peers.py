from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.forks import forked
from tests.integration.peers import SHAPES, STEPS, gradients, peers

NAMES = list(peers(2))
EXACT = {"int8_blocks", "int4_propagate", "qsgd", "qsgd_fine", "thc", "thc_2"}
"""Peers whose result does not depend on the order in which a group adds floats."""


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of three real servers received."""
    folder = tmp_path_factory.mktemp("peers")
    forked(3, "tests.integration.peers", str(folder))
    return [safetensors.torch.load_file(folder / str(rank)) for rank in range(3)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_two_virtual_servers_equal_real_ones_bit_for_bit(
    received: list[dict[str, Tensor]], name: str
) -> None:
    reducer = peers(2)[name]
    for step in range(STEPS):
        reduced = reducer(gradients(2, step))
        for rank in range(2):
            assert torch.equal(received[rank][f"2.{name}.{step}"], reduced), (step, rank)
    for key, state in reducer.server_state().items():
        for rank in range(2):
            assert torch.equal(received[rank][f"2.{name}.{key}"], state[rank : rank + 1])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_three_virtual_servers_equal_real_ones_up_to_the_order_of_float_sums(
    received: list[dict[str, Tensor]], name: str
) -> None:
    reducer = peers(3)[name]
    for step in range(STEPS):
        rows = gradients(3, step)
        reduced, real = reducer(rows), received[0][f"3.{name}.{step}"]
        for other in received[1:]:
            assert torch.equal(other[f"3.{name}.{step}"], real)
        if name in EXACT:
            assert torch.equal(real, reduced)
        elif name.startswith("powersgd"):
            assert (real - reduced).norm() <= 1e-5 * reduced.norm()
        else:
            unit = 2.0 ** {"fp16": -11, "bf16": -8}[name]
            # Below 2^-14 a float16 is a multiple of 2^-24.
            limit = 2 * 2 * unit * rows.abs().mean(0) + 2**-23
            assert ((real - reduced).abs() <= limit).all()


@pytest.mark.parametrize("servers", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_real_servers_account_as_virtual_ones(
    received: list[dict[str, Tensor]], name: str, servers: int
) -> None:
    reducer = peers(servers)[name]
    for step in range(STEPS):
        reducer(gradients(servers, step))
    error, sent = received[0][f"{servers}.{name}.totals"].tolist()
    assert sent == pytest.approx(reducer.accounting.bytes_sent)
    # Gradients this small are sampled in full.
    assert error == pytest.approx(reducer.accounting.quantization_error, rel=0.01)


@pytest.mark.parametrize("servers", [2, 3])
def test_all_servers_learn_which_gradient_is_not_finite(
    received: list[dict[str, Tensor]], servers: int
) -> None:
    for rank in range(servers):
        assert received[rank][f"{servers}.refused.raise"].tolist() == [servers - 1, 777]
        assert received[rank][f"{servers}.refused.skip_step"].tolist() == [1]


def test_the_shapes_are_of_every_kind() -> None:
    assert {len(shape) for shape in SHAPES} == {0, 1, 2, 4}
