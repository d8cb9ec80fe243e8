from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.errors import (
    ConfigurationError,
    MissingONNError,
    NonFiniteGradientError,
    SkipStep,
)
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.reducers import blocks as blocks_module
from optinc.reducers.measures.signal_terms import switch_terms
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Downlink, make_scenario
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch
from tests.unit.reducers.kernel_cases import table_switch


def ideal_reducer(
    *,
    bits: int = 8,
    servers: int = 4,
    rounding: str = "half_even",
    block_size: int = 256,
    nonfinite: str = "raise",
    backend: str = "auto",
    downlink: Downlink = "quantised",
    connected: int | None = None,
    **quantizer: Any,
) -> OptINCReducer:
    scenario = make_scenario(
        bits=bits, servers=servers, onn_inputs="auto", rounding=rounding, downlink=downlink
    )
    return OptINCReducer(
        quantizer=BlockQuantizer(
            bits=bits, block_size=block_size, nonfinite=nonfinite, **quantizer
        ),
        switch=IdealSwitch(scenario),
        servers=connected,
        backend=backend,
    )


def gradients(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_three_lines_in_a_notebook() -> None:
    reducer = OptINCReducer.from_zoo(bits=8, servers=4)
    rows = gradients(4, 10_000)
    reduced = reducer(rows)
    assert reduced.shape == (10_000,)
    error = (reduced - rows.mean(0)).norm() / rows.mean(0).norm()
    assert error < 0.02
    assert reducer.accounting.quantization_error == pytest.approx(error.item(), rel=1e-4)


@pytest.mark.parametrize("approximation", ["all", "none"])
def test_table_equals_onn_and_ideal_on_gradients(approximation: str) -> None:
    table = OptINCReducer.from_zoo(bits=8, servers=4, approximation=approximation)
    name = {"all": "b8_n4_half_even_all_layers", "none": "b8_n4_half_even_dense"}[approximation]
    onn = ONNArtifact.load(zoo.ZOO / name)
    network = OptINCReducer(quantizer=table.quantizer, switch=ONNSwitch(onn))
    rows = gradients(4, 20_011) * torch.logspace(-20, 20, 20_011)
    reduced = table(rows)
    assert torch.equal(reduced, network(rows))
    assert torch.equal(reduced, ideal_reducer()(rows))
    assert table.accounting.onn_errors == 0


@given(
    bits=st.sampled_from([4, 8, 16]),
    servers=st.integers(1, 8),
    rounding=st.sampled_from(ROUNDINGS),
    values=st.integers(0, 700),
    seed=st.integers(0, 100),
)
def test_the_error_is_bounded_by_the_steps_of_codes_and_average(
    bits: int, servers: int, rounding: str, values: int, seed: int
) -> None:
    reducer = ideal_reducer(bits=bits, servers=servers, rounding=rounding)
    rows = gradients(servers, values, seed=seed)
    reduced = reducer(rows)
    step = rows.abs().max().item() / reducer.quantizer.qmax if values else 0.0
    limit = step * (1.5 if rounding == "floor" else 1.0) * (1 + 1e-4)
    assert ((reduced - rows.mean(0)).abs() <= limit).all()


@given(
    bits=st.sampled_from([2, 4, 8, 16]),
    servers=st.integers(1, 9),
    dark=st.integers(0, 8),
    backend=st.sampled_from(["auto", "eager"]),
    seed=st.integers(0, 100),
)
def test_with_decimal_parts_the_gradient_is_the_exact_mean_of_the_servers_codes(
    bits: int, servers: int, dark: int, backend: str, seed: int
) -> None:
    connected = max(servers - dark, 1)
    reducer = ideal_reducer(
        bits=bits, servers=servers, connected=connected, downlink="decimal", backend=backend
    )
    rows = gradients(connected, 700, seed=seed)
    scales = reducer.quantizer.scales(rows)
    codes = reducer.quantizer.encode(rows, scales).double()
    steps = (codes - reducer.quantizer.zero).sum(0)
    scale = scales.double().repeat_interleave(256)[:700]
    expected = steps / (connected * reducer.quantizer.qmax) * scale
    # Rounded to float32 twice, at the quotient and at the product.
    error = (reducer(rows).double() - expected).abs()
    assert (error <= 2**-23 * expected.abs()).all()
    assert reducer(torch.zeros_like(rows)).count_nonzero() == 0


def test_decimal_parts_lift_the_limit_on_dark_inputs() -> None:
    # Of 5 inputs 3 are lit: zeros average to 128 * 3 / 5 codes.
    with pytest.raises(ConfigurationError, match=r"or any with optinc\.downlink=decimal"):
        ideal_reducer(servers=5, connected=3)
    rows = gradients(3, 1000)
    reduced = ideal_reducer(servers=5, connected=3, downlink="decimal")(rows)
    assert (reduced - rows.mean(0)).abs().max() <= 0.501 * rows.abs().max() / 127


@pytest.mark.parametrize(
    "name", ["b2_n4_decimal_smallest", "b4_n4_decimal_robust", "b8_n4_decimal_all_layers"]
)
def test_shipped_onns_with_decimal_parts_equal_the_ideal_switch(name: str) -> None:
    bits = ONNArtifact.load(zoo.ZOO / name).card.bits
    reducer = OptINCReducer.from_zoo(bits=bits, servers=4, downlink="decimal", onn=name)
    rows = gradients(4, 5000)
    assert torch.equal(reducer(rows), ideal_reducer(bits=bits, downlink="decimal")(rows))
    assert reducer.accounting.onn_errors == 0
    assert "downlink=decimal" in reducer.identity()["scenario"]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_zeros_reduce_to_exactly_zero(rounding: str) -> None:
    rows = gradients(4, 1000)
    rows[:, ::3] = 0.0
    assert (ideal_reducer(rounding=rounding)(rows)[::3] == 0.0).all()


def test_equal_servers_change_nothing_but_the_quantisation() -> None:
    row = gradients(1, 500)
    reducer = ideal_reducer()
    scales = reducer.quantizer.scales(row)
    expected = reducer.quantizer.decode(reducer.quantizer.encode(row, scales)[0], scales)
    assert torch.equal(reducer(row.expand(4, -1)), expected)


def test_the_order_of_servers_and_the_size_of_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = gradients(4, 5000)
    expected = ideal_reducer()(rows)
    assert torch.equal(ideal_reducer()(rows[[3, 1, 0, 2]]), expected)
    for blocks in (1, 3):
        monkeypatch.setattr(blocks_module, "CHUNK_BLOCKS", blocks)
        assert torch.equal(ideal_reducer(backend="eager")(rows), expected)


@pytest.mark.parametrize("largest", [1e-45, 1e-40, 1e-30, 3e38])
def test_denormal_and_huge_gradients(largest: float) -> None:
    rows = gradients(4, 512).clamp(-1, 1) * largest
    reducer = ideal_reducer()
    reduced = reducer(rows)
    assert torch.isfinite(reduced).all()
    assert reduced.abs().max() <= rows.abs().max()
    assert math.isfinite(reducer.accounting.quantization_error)
    assert reduced.abs().max() > 0 or largest < 1e-44


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    rows = gradients(4, 300).to(dtype)
    reduced = ideal_reducer()(rows)
    assert reduced.dtype == dtype
    assert torch.equal(reduced, ideal_reducer()(rows.float()).to(dtype))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nonfinite_raise_names_server_and_position(value: float) -> None:
    rows = gradients(4, 1000)
    rows[2, 777] = value
    with pytest.raises(NonFiniteGradientError, match="gradient of server 2 is") as caught:
        ideal_reducer()(rows)
    assert (caught.value.server, caught.value.position) == (2, 777)


def test_a_double_beyond_float32_is_reported_like_infinity() -> None:
    rows = gradients(4, 1000).double()
    rows[1, 5] = 1e300
    with pytest.raises(NonFiniteGradientError, match="gradient of server 1 is 1e"):
        ideal_reducer()(rows)


def test_nonfinite_skip_step() -> None:
    rows = gradients(4, 1000)
    rows[0, 0] = math.nan
    reducer = ideal_reducer(nonfinite="skip_step")
    with pytest.raises(SkipStep, match="1 blocks hold NaN"):
        reducer(rows)
    assert reducer.accounting.nonfinite_blocks == 1
    assert reducer.accounting.reductions == 0


def test_nonfinite_propagate_reaches_only_its_block() -> None:
    rows = gradients(4, 1000)
    reducer = ideal_reducer(nonfinite="propagate")
    clean = reducer(rows)
    before = reducer.accounting.squared_mean
    rows[3, 300] = math.inf
    reduced = reducer(rows)
    assert torch.isnan(reduced[256:512]).all()
    assert torch.equal(reduced[:256], clean[:256])
    assert torch.equal(reduced[512:], clean[512:])
    assert reducer.accounting.nonfinite_blocks == 1
    assert math.isfinite(reducer.accounting.squared_error)
    assert before < reducer.accounting.squared_mean < 2 * before


def test_the_accounting_counts_blocks_errors_and_bytes(small_onn: ONNArtifact) -> None:
    reducer = OptINCReducer(
        quantizer=BlockQuantizer(bits=4, block_size=100), switch=TableSwitch(small_onn)
    )
    rows = gradients(2, 1050)
    for _ in range(2):
        reducer(rows)
    accounting = reducer.accounting
    assert (accounting.reductions, accounting.values, accounting.blocks) == (2, 2100, 22)
    assert accounting.onn_errors > 0
    assert 0 < accounting.onn_error_rate < 1
    # 4 bits a value and a float32 scale a block; a ring of 2 servers sends everything once.
    assert accounting.bytes_optinc == 2 * (1050 / 2 + 11 * 4)
    assert accounting.bytes_ring == 2 * 1050 * 4
    assert accounting.bytes_ring_same_bits == accounting.bytes_optinc
    assert accounting.seconds > 0


def test_traffic_is_that_of_fig_6_and_scales_are_counted() -> None:
    reducer = ideal_reducer(bits=16)
    reducer(gradients(4, 256 * 100))
    accounting = reducer.accounting
    assert accounting.bytes_optinc / (256 * 100 * 2) == pytest.approx(1 + 2 / 256)
    assert accounting.bytes_ring_same_bits / accounting.bytes_optinc == pytest.approx(1.5)


def test_scales_of_two_bytes_are_counted_and_told_apart() -> None:
    plain, short = ideal_reducer(bits=2), ideal_reducer(bits=2, scale_dtype="bfloat16")
    for reducer in (plain, short):
        reducer(gradients(4, 256 * 100))
    assert short.accounting.bytes_optinc == 256 * 100 / 4 + 100 * 2
    assert short.accounting.bytes_optinc_received == short.accounting.bytes_optinc
    ratio = short.accounting.bytes_optinc / (256 * 100 / 4)
    assert ratio == pytest.approx(1 + 1 / 32)
    # 2 x 3/4 of a code of 2 bits, and of 4 or 2 bytes for 256 values.
    assert "sends 0.3984 bytes a value" in plain.describe_exchange(4)
    assert "sends 0.3867 bytes a value" in short.describe_exchange(4)
    assert plain.identity()["quantizer"] != short.identity()["quantizer"]


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_scales_of_two_bytes_cost_less_than_the_128th_part_of_the_error(bits: int) -> None:
    """Steps are up to 2^-7 longer, and so is the error; the table of docs/few_bits.md."""
    rows, errors = gradients(4, 256 * 1000), []
    for dtype in ("float32", "bfloat16"):
        reducer = ideal_reducer(bits=bits, downlink="decimal", scale_dtype=dtype)
        reducer(rows)
        errors.append(reducer.accounting.quantization_error)
    more = errors[1] / errors[0] - 1
    print(f"{bits} bits: {errors[0]:.4g}, {errors[1]:.4g} with bfloat16 scales, {more:+.2%}")
    assert 0 < more < 2**-7


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_groups_of_blocks_with_scales_of_two_bytes_equal_the_whole(backend: str) -> None:
    rows = gradients(4, 3000)
    expected = ideal_reducer(bits=4, scale_dtype="bfloat16", backend=backend)(rows)
    assert not torch.equal(expected, ideal_reducer(bits=4, backend=backend)(rows))
    by_groups = ideal_reducer(bits=4, scale_dtype="bfloat16", backend=backend)
    result = torch.empty(3000)
    for first in (0, 512, 1280):
        part = slice(first, {0: 512, 512: 1280, 1280: 3000}[first])
        by_groups.reduce_rows(rows[:, part], result[part], first=first)
    by_groups.end_rows()
    assert torch.equal(result, expected)


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_value_that_no_scale_of_two_bytes_holds_is_reported_like_infinity(backend: str) -> None:
    rows = gradients(4, 1000)
    rows[2, 777] = -3.39e38
    ideal_reducer(backend=backend)(rows)
    with pytest.raises(NonFiniteGradientError, match=r"server 2 is -3\.3899") as caught:
        ideal_reducer(scale_dtype="bfloat16", backend=backend)(rows)
    assert caught.value.position == 777
    propagating = {"scale_dtype": "bfloat16", "nonfinite": "propagate", "backend": backend}
    reduced = ideal_reducer(**propagating)(rows)
    assert torch.isnan(reduced).nonzero().flatten().tolist() == list(range(768, 1000))


def test_wrong_symbols_of_a_whole_sum_are_counted_up_to_the_last() -> None:
    scenario = make_scenario(
        bits=4, servers=4, onn_inputs="auto", rounding="floor", downlink="decimal"
    )
    # A wrong entry is one step of the sum too large, so that its last symbol is wrong.
    switch = table_switch(scenario, wrong_share=0.3, seed=0)
    reducer = OptINCReducer(quantizer=BlockQuantizer(bits=4), switch=switch)
    rows = gradients(4, 3000)
    assert reducer.symbols == 3
    terms = torch.cat([switch_terms(s, symbols=3) for s in reducer.replay(rows)], 1).sum(1)
    reducer(rows)
    wrong = reducer.accounting.onn_errors
    assert terms.tolist()[:2] == [3000, wrong]
    assert 0 < terms[2] < terms[3] < terms[4] == wrong


def test_what_comes_back_is_counted_apart() -> None:
    plain, decimal = ideal_reducer(bits=2), ideal_reducer(bits=2, downlink="decimal")
    for reducer in (plain, decimal):
        reducer(gradients(4, 256 * 100))
    sent, scales = 256 * 100 * 2 / 8, 100 * 4
    assert plain.accounting.bytes_optinc == decimal.accounting.bytes_optinc == sent + scales
    assert plain.accounting.bytes_optinc_received == sent + scales
    # log2(4) bits more.
    assert decimal.accounting.bytes_optinc_received == 2 * sent + scales
    assert decimal.accounting.summary()["bytes_optinc_received"] == 2 * sent + scales


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(3, 5), r"expected gradients of shape \[4, P\]"),
        (torch.zeros(4), r"expected gradients of shape \[4, P\]"),
        (torch.zeros(4, 5, dtype=torch.int32), "expected floating-point gradients"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(rows: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ideal_reducer()(rows)


def test_a_quantiser_of_other_bits_is_refused(small_onn: ONNArtifact) -> None:
    with pytest.raises(ConfigurationError, match="the quantiser has 8 bits, the switch 4"):
        OptINCReducer(quantizer=BlockQuantizer(bits=8), switch=TableSwitch(small_onn))


def test_from_zoo_never_falls_back_to_ideal() -> None:
    with pytest.raises(MissingONNError, match="task=train_onn"):
        OptINCReducer.from_zoo(bits=8, servers=5)
