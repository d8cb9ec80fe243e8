from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import ROUNDINGS

FLOAT32_MAX = torch.finfo(torch.float32).max
BFLOAT16_MAX = torch.finfo(torch.bfloat16).max
SMALLEST_DENORMAL = 2.0**-149


def through(quantizer: BlockQuantizer, gradients: torch.Tensor) -> torch.Tensor:
    """Quantise one server's gradient and decode it again."""
    scales = quantizer.scales(gradients)
    return quantizer.decode(quantizer.encode(gradients, scales)[0], scales)


@given(
    bits=st.sampled_from(range(4, 17, 2)),
    rounding=st.sampled_from(ROUNDINGS),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=40),
    block_size=st.integers(1, 50),
)
def test_codes_are_legal_and_close(
    bits: int, rounding: str, values: list[float], block_size: int
) -> None:
    quantizer = BlockQuantizer(bits=bits, block_size=block_size, rounding=rounding)
    gradients = torch.tensor([values], dtype=torch.float32)
    scales = quantizer.scales(gradients)
    assert len(scales) == -(-len(values) // block_size)
    codes = quantizer.encode(gradients, scales)
    assert codes.dtype == torch.int32
    assert ((codes >= 1) & (codes <= 2**bits - 1)).all()
    decoded = quantizer.decode(codes[0], scales)
    assert torch.isfinite(decoded).all()
    step = scales.double().repeat_interleave(block_size)[: len(values)] / quantizer.qmax
    # The float32 arithmetic adds a few units in the last place, and denormals round coarsely.
    slack = 1e-6 * step * quantizer.qmax + SMALLEST_DENORMAL
    limit = step * (1.0 if rounding == "floor" else 0.5) + slack
    assert ((decoded.double() - gradients[0].double()).abs() <= limit).all()


@pytest.mark.parametrize("bits", range(2, 17, 2))
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_zero_decodes_to_exactly_zero(bits: int, rounding: str) -> None:
    quantizer = BlockQuantizer(bits=bits, rounding=rounding)
    if bits == 2:
        assert quantizer.qmax == 1
    gradients = torch.tensor([[0.0, -0.0, 1.0, -1.0]])
    assert through(quantizer, gradients)[:2].tolist() == [0.0, 0.0]
    assert through(quantizer, torch.zeros(1, 5)).tolist() == [0.0] * 5


def test_the_largest_value_of_a_block_is_returned_unchanged() -> None:
    for largest in (1e-45, 1e-38, 0.1, 3.0e38, FLOAT32_MAX):
        gradients = torch.tensor([[largest, -largest, largest / 2]])
        decoded = through(BlockQuantizer(bits=8), gradients)
        assert torch.equal(decoded[:2], gradients[0, :2])


def test_scales_are_shared_over_servers_and_kept_apart_over_blocks() -> None:
    quantizer = BlockQuantizer(bits=8, block_size=2)
    gradients = torch.tensor([[1.0, -2.0, 0.5, 0.0, 7.0], [0.0, 1.0, -4.0, 0.0, -9.0]])
    assert quantizer.scales(gradients).tolist() == [2.0, 4.0, 9.0]


def test_a_last_partial_block_takes_nothing_from_padding() -> None:
    quantizer = BlockQuantizer(bits=8, block_size=256)
    gradients = torch.full((2, 300), -1e-3)
    assert quantizer.scales(gradients).tolist() == [pytest.approx(1e-3)] * 2
    assert torch.equal(through(quantizer, gradients[:1]), gradients[0])


@pytest.mark.parametrize("values", [0, 1, 255, 256, 257, 513])
def test_any_number_of_values(values: int) -> None:
    quantizer = BlockQuantizer(bits=8, block_size=256)
    gradients = torch.randn(3, values)
    scales = quantizer.scales(gradients)
    assert scales.shape == (-(-values // 256),)
    assert quantizer.encode(gradients, scales).shape == (3, values)


def test_only_the_block_of_a_nonfinite_value_becomes_nan() -> None:
    quantizer = BlockQuantizer(bits=8, block_size=2)
    gradients = torch.tensor([[1.0, 2.0, torch.nan, 1.0, torch.inf, 3.0, -torch.inf, 0.0, 5.0]])
    scales = quantizer.scales(gradients)
    assert torch.isfinite(scales).tolist() == [True, False, False, False, True]
    codes = quantizer.encode(gradients, scales)
    assert (codes[0, 2:8] == quantizer.zero).all()
    decoded = quantizer.decode(codes[0], scales)
    assert torch.isnan(decoded).tolist() == [False] * 2 + [True] * 6 + [False]


def test_half_precision_gradients_are_quantised_in_float32() -> None:
    gradients = torch.randn(2, 300).to(torch.bfloat16)
    quantizer = BlockQuantizer(bits=8)
    scales = quantizer.scales(gradients)
    assert scales.dtype == torch.float32
    assert torch.equal(
        quantizer.encode(gradients, scales), quantizer.encode(gradients.float(), scales)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 9}, "optinc.bits must be even, 2 to 16, got 9"),
        ({"block_size": 0}, "optinc.quantization.block_size must be at least 1, got 0"),
        ({"rounding": "x"}, "optinc.quantization.rounding must be"),
        ({"nonfinite": "x"}, r"optinc.quantization.nonfinite must be raise \| skip_step"),
        ({"scale_dtype": "x"}, r"optinc.quantization.scale_dtype must be float32 \| bfloat16"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BlockQuantizer(**({"bits": 8} | settings))


def test_stochastic_codes_are_right_on_average_and_legal() -> None:
    quantizer = BlockQuantizer(bits=2, block_size=8, rounding="stochastic", seed=3)
    gradients = torch.tensor([[0.3, -0.7, 0.0, 1.0, -1.0, 0.05, 0.5, -0.2]])
    scales = quantizer.scales(gradients)
    draws = 4_000
    codes = torch.stack([quantizer.encode(gradients, scales, reduction=k)[0] for k in range(draws)])
    assert ((codes >= 1) & (codes <= 3)).all()
    mean = codes.double().mean(0) - quantizer.zero
    # A code is one of two neighbours: its standard deviation is at most half a step.
    assert ((mean - gradients[0]).abs() <= 5 * 0.5 / draws**0.5).all()
    assert codes[:, [2, 3, 4]].unique(dim=0).tolist() == [[2, 3, 1]]


def test_stochastic_codes_depend_on_reduction_server_and_position_alone() -> None:
    quantizer = BlockQuantizer(bits=4, block_size=8, rounding="stochastic", seed=3)
    gradients = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    scales = quantizer.scales(gradients)
    codes = quantizer.encode(gradients, scales, reduction=5)
    for server in range(3):
        part = quantizer.encode(
            gradients[server : server + 1, 24:], scales[3:], reduction=5, first=24, server=server
        )
        assert torch.equal(part[0], codes[server, 24:])
    order = torch.tensor([40, 0, 24])
    moved = torch.cat([gradients[1:2, first : first + 8] for first in order.tolist()], 1)
    part = quantizer.encode(moved, scales[order // 8], reduction=5, first=order, server=1)
    assert torch.equal(part[0], torch.cat([codes[1, k : k + 8] for k in order.tolist()]))
    assert not torch.equal(quantizer.encode(gradients, scales, reduction=6), codes)
    equal_rows = quantizer.encode(gradients[:1].expand(2, -1), scales, reduction=5)
    assert not torch.equal(equal_rows[0], equal_rows[1])
    with pytest.raises(ValueError, match="give its number"):
        quantizer.encode(gradients, scales)


def test_an_illegal_seed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.quantization\.seed must be 0 to 2"):
        BlockQuantizer(bits=4, seed=2**32)


@given(
    bits=st.sampled_from(range(2, 17, 2)),
    rounding=st.sampled_from(ROUNDINGS),
    values=st.lists(st.floats(-BFLOAT16_MAX, BFLOAT16_MAX, width=32), min_size=1, max_size=40),
    block_size=st.integers(1, 50),
)
def test_scales_of_two_bytes_lose_at_most_the_128th_part_of_a_step(
    bits: int, rounding: str, values: list[float], block_size: int
) -> None:
    options = {"bits": bits, "block_size": block_size, "rounding": rounding}
    short = BlockQuantizer(**options, scale_dtype="bfloat16")
    gradients = torch.tensor([values], dtype=torch.float32)
    exact, scales = BlockQuantizer(**options).scales(gradients), short.scales(gradients)
    assert torch.equal(scales.to(torch.bfloat16).float(), scales)
    assert ((scales >= exact) & (scales <= exact * (1 + 2**-7) + 2**-133)).all()
    codes = short.encode(gradients, scales)
    assert ((codes >= 1) & (codes <= 2**bits - 1)).all()
    step = scales.double().repeat_interleave(block_size)[: len(values)] / short.qmax
    slack = 1e-6 * step * short.qmax + SMALLEST_DENORMAL
    error = (short.decode(codes[0], scales).double() - gradients[0].double()).abs()
    assert (error <= step * (1.0 if rounding == "floor" else 0.5) + slack).all()


def test_scales_of_two_bytes_keep_zeros_and_gradients_in_bfloat16() -> None:
    exact = BlockQuantizer(bits=2, block_size=8)
    short = BlockQuantizer(bits=2, block_size=8, scale_dtype="bfloat16")
    assert (exact.scale_bytes, short.scale_bytes) == (4, 2)
    gradients = torch.randn(2, 20).to(torch.bfloat16)
    assert torch.equal(short.scales(gradients), exact.scales(gradients))
    zeros = torch.tensor([[0.0, -0.0, 0.0]])
    assert short.scales(zeros).view(torch.int32).tolist() == [0]
    assert through(short, zeros).view(torch.int32).tolist() == [0, 0, 0]


def test_a_magnitude_that_no_scale_of_two_bytes_holds_is_not_finite() -> None:
    short = BlockQuantizer(bits=8, block_size=1, scale_dtype="bfloat16")
    assert short.largest == BFLOAT16_MAX < 3.39e38
    gradients = torch.tensor([[BFLOAT16_MAX, 3.39e38, -FLOAT32_MAX, torch.nan, 1e-45]])
    scales = short.scales(gradients)
    assert torch.isfinite(scales).tolist() == [True, False, False, False, True]
    assert through(short, gradients).isnan().tolist() == [False, True, True, True, False]
    assert BlockQuantizer(bits=8).largest == FLOAT32_MAX
