from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.mixed_bits import MixedBitsReducer
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from optinc.tasks.config import validate
from optinc.tasks.instantiate import instantiate
from tests.hydra_jobs import composed
from tests.unit.reducers.gradients import gradients

NAMES = ["embed.weight", "norm.weight", "layer.weight", "layer.bias", "gain.weight"]
SHAPES = [torch.Size(shape) for shape in [(30, 4), (7,), (5, 9), (5,), (3, 2)]]
VALUES = sum(shape.numel() for shape in SHAPES)
PLACES = dict(zip(NAMES, torch.arange(VALUES).split([s.numel() for s in SHAPES]), strict=True))


def one(bits: int, **options: object) -> OptINCReducer:
    quantizer = {"block_size": 16} | options.pop("quantizer", {})
    scenario = make_scenario(bits=bits, servers=4, onn_inputs="auto", rounding="half_even")
    return OptINCReducer(
        quantizer=BlockQuantizer(bits=bits, **quantizer), switch=IdealSwitch(scenario), **options
    )


def mixed(
    *, coarse: dict[str, object] | None = None, laid_out: bool = True, **options: object
) -> MixedBitsReducer:
    found = MixedBitsReducer(
        coarse=one(2, **(coarse or {})),
        fine=one(8, **(coarse or {})),
        **options,
    )
    if laid_out:
        found.lay_out(SHAPES, NAMES)
    return found


def of(reduced: Tensor, *names: str) -> Tensor:
    return torch.cat([reduced[PLACES[name]] for name in names])


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, {"norm.weight", "layer.bias"}),
        ({"max_dims": 0, "patterns": ["*norm*"]}, {"norm.weight"}),
        ({"patterns": ["gain.*"]}, {"norm.weight", "layer.bias", "gain.weight"}),
    ],
)
def test_chosen_parameters_go_through_the_fine_switch(
    options: dict[str, object], chosen: set[str]
) -> None:
    rows = gradients(4, VALUES)
    found = mixed(**options)
    reduced = found(rows)
    for bits, names in ((2, set(NAMES) - chosen), (8, chosen)):
        mine = [name for name in NAMES if name in names]
        alone = one(bits)
        alone.lay_out([SHAPES[NAMES.index(name)] for name in mine])
        assert torch.equal(
            of(reduced, *mine), alone(torch.cat([rows[:, PLACES[n]] for n in mine], 1))
        )


def test_the_accounting_is_the_sum_of_both() -> None:
    rows = gradients(4, VALUES)
    found = mixed()
    found(rows)
    coarse = found.coarse.layout.values * 2 / 8 + 4 * (8 + 3 + 1)
    fine = found.fine.layout.values + 4 * 2
    assert found.accounting.bytes_sent == coarse + fine
    assert found.accounting.reductions == 1
    assert found.accounting.bytes_ring == pytest.approx(VALUES * 4 * 1.5)
    error = (found(rows) - rows.mean(0)).norm() / rows.mean(0).norm()
    assert found.accounting.quantization_error == pytest.approx(error.item(), rel=1e-4)


def test_the_result_may_be_a_padded_row() -> None:
    rows = gradients(4, VALUES)
    found = mixed()
    padded = found.layout.pad(rows)
    reduced = found(padded, out=padded[0])
    assert torch.equal(torch.cat([reduced[p] for p in found.layout.slices]), mixed()(rows))


def test_a_step_that_fails_in_one_switch_leaves_the_errors_of_both() -> None:
    for name in ("layer.weight", "norm.weight"):
        found = mixed(coarse={"error_feedback": True, "quantizer": {"nonfinite": "skip_step"}})
        found(gradients(4, VALUES))
        before = {key: value.clone() for key, value in found.server_state().items()}
        assert sorted(before) == ["coarse_error", "fine_error"]
        rows = gradients(4, VALUES, seed=1)
        rows[1, PLACES[name][2]] = math.nan
        with pytest.raises(SkipStep):
            found(rows)
        assert all(torch.equal(found.server_state()[key], before[key]) for key in before)
        assert found.accounting.reductions == 1


def test_the_state_goes_on_bit_for_bit() -> None:
    options = {"coarse": {"error_feedback": True, "quantizer": {"rounding": "stochastic"}}}
    whole, first, second = mixed(**options), mixed(**options), mixed(**options)
    rows = [gradients(4, VALUES, seed=step) for step in range(3)]
    expected = [whole(each) for each in rows]
    first(rows[0])
    second.load_server_state(first.server_state())
    second.accounting.load_state_dict(first.accounting.state_dict())
    for each, reduced in zip(rows[1:], expected[1:], strict=True):
        assert torch.equal(second(each), reduced)
    second.forget_parameters()
    assert second.server_state() == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_value_that_is_not_finite_is_named(name: str) -> None:
    rows = gradients(4, VALUES)
    place = int(PLACES[name][1])
    rows[3, place] = math.inf
    with pytest.raises(NonFiniteGradientError) as raised:
        mixed()(rows)
    assert (raised.value.server, raised.value.position) == (3, place)


def test_dark_inputs_are_those_of_both() -> None:
    rows = gradients(2, VALUES)
    found = mixed()
    found.connect(2)
    assert (found.servers, found.coarse.servers, found.fine.servers) == (2, 2, 2)
    assert (of(found(rows), "norm.weight") - of(rows.mean(0), "norm.weight")).norm() < 0.05
    assert mixed(servers=2).fine.servers == 2
    with pytest.raises(ConfigurationError, match="5 servers do not fit"):
        found.connect(5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mixed(max_dims=0), "choose no parameter"),
        (lambda: mixed(max_dims=-1), "reducer.max_dims must be at least 0, got -1"),
        (lambda: mixed(patterns="*norm*"), "must be a list of names"),
        (lambda: mixed(patterns=["*nrm*"]), r"'\*nrm\*' matches no parameter; the first ones"),
        (lambda: mixed(laid_out=False)(gradients(4, VALUES)), r"call lay_out\(shapes, names\)"),
        (lambda: mixed(laid_out=False).lay_out(SHAPES), "chooses parameters by their names"),
        (
            lambda: mixed(laid_out=False).lay_out(SHAPES[:1], NAMES[:1]),
            "max_dims=1 chooses no parameter",
        ),
        (lambda: MixedBitsReducer(coarse=one(8), fine=one(4)), "more than optinc.bits=8, got 4"),
        (
            lambda: MixedBitsReducer(coarse=one(2), fine=one(4, quantizer={"block_size": 32})),
            "block_size must be that of reducer.coarse, 16, got 32",
        ),
        (
            lambda: MixedBitsReducer(coarse=one(2), fine=one(4, servers=2)),
            "4 servers send to reducer.coarse, 2 to reducer.fine",
        ),
        (lambda: mixed(coarse={"quantizer": {"blocks": "flat"}}), "blocks=parameter"),
    ],
)
def test_what_cannot_work_is_refused(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()


@pytest.mark.parametrize("option", ["mixed_bits", "mixed_bits_onn"])
def test_the_configurations_build_both_switches(option: str, tmp_path: Path) -> None:
    feedback = ["optinc.quantization.error_feedback=true", "optinc.quantization.clip=1.2"]
    switches = ["optinc.bits=4", "optinc/fidelity=table", "onn=b4_n4_decimal_smallest"]
    more = ["optinc.downlink=decimal", "reducer.coarse.servers=2", f"paths.cache_dir={tmp_path}"]
    cfg = composed(tmp_path, f"reducer={option}", *feedback, *switches, *more)
    validate(cfg)
    found = instantiate(cfg.reducer)
    assert isinstance(found, MixedBitsReducer)
    assert (found.servers, found.coarse.servers, found.fine.servers) == (2, 2, 2)
    assert (found.coarse.quantizer.bits, found.fine.quantizer.bits) == (4, 8)
    assert (found.coarse.senders.clip, found.fine.senders.clip) == (1.2, None)
    assert found.coarse.feeds_back
    assert found.fine.feeds_back
    fidelity = {"mixed_bits": "ideal", "mixed_bits_onn": "table"}[option]
    assert (found.coarse.switch.fidelity, found.fine.switch.fidelity) == ("table", fidelity)


def test_it_says_what_both_are() -> None:
    found = mixed()
    assert found.describe()["fine_bits"] == 8
    assert found.describe()["fidelity"] == found.describe()["fine_fidelity"] == "ideal"
    assert found.alignment == 16
    assert not found.feeds_back
    assert mixed(coarse={"error_feedback": True}).feeds_back
    assert str(mixed(patterns=["gain.*"]).identity()) != str(found.identity())
