"""What servers do before they quantise, in the reducer that they belong to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.layout import GradientLayout
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.senders.senders import Senders
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.gradients import gradients

SHAPES = [torch.Size(shape) for shape in [(20, 16), (16,), (), (40, 3), (5,)]]
SIZE = 16
VALUES = sum(shape.numel() for shape in SHAPES)


def reducer(
    *,
    bits: int = 2,
    fan_in: int = 4,
    servers: int | None = None,
    downlink: str = "decimal",
    rounding: str = "half_even",
    nonfinite: str = "raise",
    laid_out: bool = True,
    **options: object,
) -> OptINCReducer:
    scenario = make_scenario(
        bits=bits, servers=fan_in, onn_inputs="auto", rounding="half_even", downlink=downlink
    )
    found = OptINCReducer(
        quantizer=BlockQuantizer(
            bits=bits, block_size=SIZE, rounding=rounding, nonfinite=nonfinite, seed=4
        ),
        switch=IdealSwitch(scenario),
        servers=servers,
        **options,
    )
    if laid_out:
        found.lay_out(SHAPES)
    return found


def errors_of(found: OptINCReducer) -> Tensor:
    return found.server_state()["error"]


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("rounding", ["half_even", "stochastic"])
@pytest.mark.parametrize("clip", [None, 1.2])
@pytest.mark.parametrize(("fan_in", "servers"), [(4, 4), (4, 3), (2, 1)])
def test_all_that_was_sent_and_kept_adds_up_to_all_gradients(
    rotation: str, rounding: str, clip: float | None, fan_in: int, servers: int
) -> None:
    """Sum of reduced = sum of means - mean of the errors that are left, with the sum sent back."""
    options = {"rounding": rounding, "rotation": rotation, "clip": clip}
    found = reducer(fan_in=fan_in, servers=servers, error_feedback=True, **options)
    reduced, mean = torch.zeros(VALUES).double(), torch.zeros(VALUES).double()
    for step in range(12):
        rows = gradients(servers, VALUES, seed=step)
        mean += rows.double().mean(0)
        reduced += found(rows).double()
    assert errors_of(found).shape == (servers, found.layout.size)
    kept = errors_of(found).double().mean(0)
    left = torch.cat([kept[place] for place in found.layout.slices])
    assert torch.allclose(reduced, mean - left, atol=1e-4)
    assert left.norm() > 0.1
    padding = [errors_of(found)[:, gap] for gap in found.layout.gaps]
    assert all(part.abs().sum() == 0 for part in padding)


def test_feedback_sends_small_values_in_the_end() -> None:
    """Values below half a step are never sent without feedback."""
    rows = torch.full((4, VALUES), 0.1)
    rows[:, ::SIZE] = 1.0
    plain, feedback = reducer(), reducer(error_feedback=True)
    for found, expected in ((plain, 0.0), (feedback, 0.1)):
        total = sum(found(rows) for _ in range(100)) / 100
        assert total[1].item() == pytest.approx(expected, abs=0.011)


def test_a_rotation_leaves_the_mean_of_equal_rows_within_a_step() -> None:
    rows = gradients(1, VALUES).repeat(4, 1)
    plain, rotated = reducer(bits=8), reducer(bits=8, rotation="hadamard")
    for found in (plain, rotated):
        assert (found(rows) - rows[0]).norm() < 0.02 * rows[0].norm()
    assert not torch.equal(plain(rows), rotated(rows))


def test_a_rotation_helps_where_single_values_are_large() -> None:
    rows = gradients(1, VALUES).repeat(4, 1)
    rows[:, ::SIZE] *= 50
    errors = {}
    for rotation in ("none", "hadamard"):
        found = reducer(bits=4, rotation=rotation)
        small = torch.arange(VALUES) % SIZE != 0
        errors[rotation] = (found(rows) - rows[0])[small].square().sum() / rows[0][small].norm()
    assert errors["hadamard"] < errors["none"]


def test_values_beyond_the_clip_are_cut_to_it() -> None:
    rows = gradients(2, 40)
    rows[1, 16:32] = 0.0
    senders = Senders(BlockQuantizer(bits=4, block_size=16), clip=1.5)
    clipped = rows.clone()
    senders.prepare(clipped, None, reduction=0)
    for part in (slice(0, 16), slice(16, 32), slice(32, 40)):
        limit = 1.5 * rows[:, part].double().square().mean(1, keepdim=True).sqrt()
        expected = rows[:, part].double().clamp(-limit, limit)
        assert torch.allclose(clipped[:, part].double(), expected, rtol=1e-6)


@pytest.mark.parametrize(("clip", "expected"), [(1.224, 0.1902), (None, 0.5)])
def test_three_codes_err_least_where_normal_values_are_clipped(
    clip: float | None, expected: float
) -> None:
    """Max's quantiser of three levels: 0.1902 of the variance; by the largest of 16, far more."""
    rows = gradients(1, 1 << 16)
    scenario = make_scenario(bits=2, servers=1, onn_inputs="auto", rounding="half_even")
    found = OptINCReducer(
        quantizer=BlockQuantizer(bits=2, block_size=1 << 12),
        switch=IdealSwitch(scenario),
        clip=clip,
    )
    error = (found(rows) - rows[0]).square().mean().item()
    assert error == pytest.approx(expected, rel=0.02) if clip else error > expected


def test_the_accounted_error_is_that_of_the_gradients_under_rotation() -> None:
    rows = gradients(4, VALUES)
    found = reducer(bits=4, rotation="hadamard")
    error = (found(rows).double() - rows.double().mean(0)).norm() / rows.double().mean(0).norm()
    assert found.accounting.quantization_error == pytest.approx(error.item(), rel=1e-5)


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_a_state_goes_on_bit_for_bit(rotation: str) -> None:
    options = {"error_feedback": True, "rotation": rotation, "rounding": "stochastic", "clip": 1.5}
    whole, first, second = (reducer(**options) for _ in range(3))
    rows = [gradients(4, VALUES, seed=step) for step in range(4)]
    expected = [whole(each.clone()) for each in rows]
    found = [first(each.clone()) for each in rows[:2]]
    second.load_server_state(first.server_state())
    second.accounting.load_state_dict(first.accounting.state_dict())
    found += [second(each.clone()) for each in rows[2:]]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(errors_of(second), errors_of(whole))


@pytest.mark.parametrize("policy", ["raise", "skip_step", "propagate"])
def test_a_gradient_that_is_not_finite_leaves_the_errors_as_they_were(policy: str) -> None:
    found = reducer(error_feedback=True, rotation="hadamard", clip=1.2, nonfinite=policy)
    found(gradients(4, VALUES))
    before = errors_of(found).clone()
    bad = gradients(4, VALUES, seed=1)
    bad[2, 33] = math.inf
    if policy == "propagate":
        reduced = found(bad)
        # Its block, and no other, as without a rotation.
        assert torch.isnan(reduced[32:48]).all()
        assert torch.isfinite(reduced[:32]).all()
        assert torch.isfinite(reduced[48:]).all()
    elif policy == "raise":
        with pytest.raises(NonFiniteGradientError) as raised:
            found(bad)
        assert (raised.value.server, raised.value.position) == (2, 33)
    else:
        with pytest.raises(SkipStep):
            found(bad)
    assert torch.equal(errors_of(found), before)
    found(gradients(4, VALUES, seed=2))
    assert torch.isfinite(errors_of(found)).all()


def test_values_that_overflow_once_rotated_are_named() -> None:
    found = reducer(rotation="hadamard")
    rows = torch.full((4, VALUES), 3e38)
    rows *= torch.where(torch.arange(VALUES) % 2 > 0, -1.0, 1.0)
    with pytest.raises(NonFiniteGradientError, match="inf"):
        found(rows)


def test_other_parameters_begin_without_errors() -> None:
    found = reducer(error_feedback=True)
    found(gradients(4, VALUES))
    found.forget_parameters()
    assert found.server_state() == {}
    found.lay_out([torch.Size((7,))])
    found(gradients(4, 7))
    assert errors_of(found).shape == (4, 7)


def test_arguments_stay_and_the_result_may_be_a_row() -> None:
    rows = gradients(4, VALUES)
    kept = rows.clone()
    expected = reducer(error_feedback=True, rotation="hadamard")(rows)
    assert torch.equal(rows, kept)
    found = reducer(error_feedback=True, rotation="hadamard")
    padded = found.layout.pad(rows)
    reduced = found(padded, out=padded[0])
    assert torch.equal(torch.cat([reduced[place] for place in found.layout.slices]), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_come_back_as_they_went(dtype: torch.dtype) -> None:
    rows = gradients(4, VALUES).to(dtype)
    options = {"bits": 8, "error_feedback": True, "rotation": "hadamard"}
    reduced = reducer(**options)(rows)
    assert reduced.dtype == dtype
    assert torch.equal(reduced, reducer(**options)(rows.float()).to(dtype))


def test_one_flat_tensor_and_flat_blocks_are_one_piece() -> None:
    quantizer = BlockQuantizer(bits=8, block_size=4, blocks="flat")
    senders = Senders(quantizer, rotation="hadamard")
    layout = GradientLayout([3, 6])
    rows = gradients(2, 9)
    prepared = rows.clone()
    senders.prepare(prepared, layout, reduction=0)
    assert torch.equal(prepared[:, 8:], rows[:, 8:])
    assert not torch.isclose(prepared[:, :8], rows[:, :8]).all()
    senders.prepare(rows, None, reduction=0)
    assert torch.equal(rows, prepared)


def test_parts_are_prepared_as_the_whole() -> None:
    found = reducer(rotation="hadamard", error_feedback=True)
    found(gradients(4, VALUES))
    senders, layout = found.senders, found.layout
    rows = layout.pad(gradients(4, VALUES, seed=1))
    whole = rows.clone()
    senders.prepare(whole, layout, reduction=1)
    for place in layout.slices:
        senders.prepare(rows[:, place], layout, reduction=1, first=place.start)
    assert torch.equal(rows, whole)


def test_replayed_signals_are_those_of_the_next_reduction() -> None:
    options = {"error_feedback": True, "rotation": "hadamard", "rounding": "stochastic"}
    found = reducer(bits=4, downlink="quantised", **options)
    found(gradients(4, VALUES))
    rows = found.layout.pad(gradients(4, VALUES, seed=1))
    before = errors_of(found).clone()
    codes = torch.cat([signal.codes_NP for signal in found.replay(rows)], 1)
    assert torch.equal(errors_of(found), before)
    prepared = rows.clone()
    found.senders.prepare(prepared, found.layout, reduction=1)
    expected = found.quantizer.encode(prepared, found.quantizer.scales(prepared), reduction=1)
    assert torch.equal(codes, expected)


def test_a_real_server_cannot_replay_the_errors_of_others() -> None:
    found = reducer(error_feedback=True, laid_out=False)
    found.load_server_state({"error": torch.zeros(1, 32)})
    with pytest.raises(ConfigurationError, match="needs strategy=virtual_servers"):
        list(found.replay(gradients(4, 32)))


def test_illegal_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"rotation must be none \| hadamard, got 'qr'"):
        reducer(rotation="qr")
    with pytest.raises(ConfigurationError, match=r"clip must be null or above 0, .* got 0"):
        reducer(clip=0.0)
    with pytest.raises(ConfigurationError, match="block_size to be a power of two"):
        Senders(BlockQuantizer(bits=8, block_size=100), rotation="hadamard")
    with pytest.raises(ConfigurationError, match=r"fused has no kernel .*rounding=stochastic"):
        reducer(rounding="stochastic", backend="fused")(gradients(4, VALUES))


def test_servers_must_agree_on_what_they_do() -> None:
    settings = [{}, {"error_feedback": True}, {"rotation": "hadamard"}, {"clip": 1.2}]
    identities = [str(reducer(**each).identity()) for each in settings]
    assert len(set(identities)) == 4
