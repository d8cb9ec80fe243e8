"""Real servers against virtual ones, and DDP in this process.

Covers: optinc.strategies.ddp
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError, OptINCError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.lightning_internals import HookedDDPStrategy
from optinc.switches.single import IdealSwitch
from tests.forks import forked
from tests.hydra_jobs import TINY, command, composed, job
from tests.integration.ddp_servers import CASES, run
from tests.processes import python, torchrun

UNEVEN = (
    *("table", "ideal_16_bits", "noise", "injected", "chip", "chip_per_value", "direct_cascade"),
    *("onn_no_table", "buckets", "views", "unused"),
)
"""Cases whose shares and draws are others where three servers take them, and one input is dark."""


class Results:
    """What :mod:`tests.integration.ddp_servers` wrote for one number of servers."""

    def __init__(self, folder: Path, servers: int, names: Collection[str]) -> None:
        forked(servers, "tests.integration.ddp_servers", str(folder), *names)
        run("virtual", servers, folder, names)
        names = [f"ddp-{rank}" for rank in range(servers)] + ["virtual-0"]
        self.ranks = names[:-1]
        self.weights = {n: safetensors.torch.load_file(folder / f"{n}.safetensors") for n in names}
        self.notes = {n: json.loads((folder / f"{n}.json").read_text()) for n in names}

    def case(self, name: str, process: str) -> dict[str, Tensor]:
        """Weights and buffers of a case."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.weights[process].items()
            if key.startswith(prefix)
        }


@pytest.fixture(scope="module")
def two(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All cases by two servers."""
    return Results(tmp_path_factory.mktemp("ddp"), 2, CASES)


@pytest.fixture(scope="module")
def three(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Some cases by three."""
    return Results(tmp_path_factory.mktemp("ddp"), 3, UNEVEN)


@pytest.fixture(params=["two", "three"])
def results(request: pytest.FixtureRequest) -> Results:
    """Of two servers, and of three."""
    found: Results = request.getfixturevalue(request.param)
    return found


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[key]) for key, value in first.items())


def parameters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without BatchNorm's statistics, which every rank gathers from its own data."""
    return {key: value for key, value in state.items() if not re.search("running|batches", key)}


@pytest.mark.slow
def test_real_servers_train_to_the_weights_of_virtual_ones(results: Results) -> None:
    for name in results.notes["virtual-0"]:
        assert equal(results.case(name, "ddp-0"), results.case(name, "virtual-0")), name


@pytest.mark.slow
def test_all_ranks_end_with_the_same_weights(results: Results) -> None:
    for name in results.notes["ddp-0"]:
        states = [parameters(results.case(name, rank)) for rank in results.ranks]
        assert all(equal(states[0], state) for state in states[1:]), name


@pytest.mark.slow
def test_backends_buckets_and_views_change_nothing(two: Results) -> None:
    assert equal(two.case("table", "ddp-0"), two.case("eager", "ddp-0"))
    assert equal(two.case("table", "ddp-0"), two.case("onn", "ddp-0"))
    assert equal(two.case("ideal_no_table", "ddp-0"), two.case("onn_no_table", "ddp-0"))
    assert equal(two.case("chip", "ddp-0"), two.case("chip_eager", "ddp-0"))
    assert equal(two.case("table", "ddp-0"), two.case("ideal_chip", "ddp-0"))
    assert equal(two.case("table", "ddp-0"), two.case("ideal_direct", "ddp-0"))
    assert equal(two.case("table", "ddp-0"), two.case("ideal_direct_cascade", "ddp-0"))
    assert equal(two.case("direct", "ddp-0"), two.case("direct_eager", "ddp-0"))
    assert equal(two.case("buckets", "ddp-0"), two.case("views", "ddp-0"))
    unused = two.case("unused", "ddp-0")
    unused = {key: value for key, value in unused.items() if not key.startswith("unused.")}
    # The unused parameters stand last, so that no block holds other values because of them.
    assert equal(two.case("views", "ddp-0"), unused)


@pytest.mark.slow
def test_wrong_tables_and_noise_do_change_something(two: Results) -> None:
    table = two.case("table", "ddp-0")
    assert not equal(table, two.case("imperfect", "ddp-0"))
    assert not equal(table, two.case("noise", "ddp-0"))
    notes = two.notes["ddp-0"]
    assert notes["table"]["onn_errors"] == 0
    assert notes["imperfect"]["onn_errors"] > 0
    assert notes["noise"]["onn_errors"] > 0
    assert notes["injected"]["onn_errors"] > 0
    for name in ("chip_per_value", "direct_per_value", "direct_cascade"):
        assert notes[name]["onn_errors"] > 0
    for name in ("chip", "direct"):
        wrong, expected = notes[name]["onn_errors"], notes[name]["onn_errors_expected"]
        assert 0 < abs(wrong - expected) < 5 * expected**0.5 < wrong


@pytest.mark.slow
def test_real_servers_account_like_virtual_ones(results: Results) -> None:
    measured = {"seconds", "seconds_waiting", "bytes_collectives"}
    for name, virtual in results.notes["virtual-0"].items():
        real = results.notes["ddp-0"][name]
        for key in set(virtual) - measured - {"squared_error", "squared_mean"}:
            assert real[key] == virtual[key], (name, key)
        assert real["bytes_collectives"] > 0 == virtual["bytes_collectives"]
        if name != "ring":
            # So few blocks are all in the sample.
            assert real["squared_error"] == pytest.approx(virtual["squared_error"], rel=1e-3), name


@pytest.mark.slow
def test_loss_scaling_in_half_precision_is_near_exact_averaging(two: Results) -> None:
    """The same overflows are skipped, and the rest differs by the quantisation."""
    optinc, ring = two.case("fp16", "ddp-0"), two.case("fp16_ring", "ddp-0")
    assert two.notes["ddp-0"]["fp16"]["reductions"] == 12
    for key, value in parameters(optinc).items():
        assert torch.isfinite(value).all()
        assert torch.allclose(value, ring[key], atol=0.15), key
    assert not equal(parameters(optinc), parameters(ring))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of this process only, for tests that need no second server."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def ideal(inputs: int = 1, nonfinite: str = "raise") -> OptINCReducer:
    scenario = make_scenario(bits=8, servers=inputs, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=8, nonfinite=nonfinite)  # type: ignore[arg-type]
    return OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario))


def fit(model: pl.LightningModule, strategy: Any, **settings: Any) -> pl.Trainer:
    data: Any = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    trainer.fit(model, DataLoader(data, batch_size=None))
    return trainer


class ZeroReducer(Reducer):
    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        self.accounting.reductions += 1
        out_P.zero_()


@pytest.mark.usefixtures("alone")
def test_a_reducer_that_returns_zeros_freezes_the_weights() -> None:
    model, reducer = Line(), ZeroReducer(servers=1)
    before = model.layer.weight.detach().clone()
    fit(model, OptINCDDPStrategy(reducer))
    assert reducer.accounting.reductions == 5
    assert torch.equal(model.layer.weight, before)


@pytest.mark.usefixtures("alone")
def test_a_hook_that_is_not_called_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HookedDDPStrategy, "_register_ddp_hooks", lambda self: None)
    model = Line()
    before = model.layer.weight.detach().clone()
    with pytest.raises(OptINCError, match="did not call the reducer"):
        fit(model, OptINCDDPStrategy(ideal()))
    assert torch.equal(model.layer.weight, before)


@pytest.mark.usefixtures("alone")
def test_the_reducer_is_called_once_per_optimiser_step_of_accumulated_batches() -> None:
    reducer = ideal()
    fit(Line(), OptINCDDPStrategy(reducer), accumulate_grad_batches=2)
    # Four batches by two, and the last one alone.
    assert reducer.accounting.reductions == 3


class Manual(Line):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Turns(Line):
    """Another layer is trained in some batches.

    Args:
        first: The first of these batches.
        stop: The one behind the last.
        manual: Steps by hand, every second batch.
    """

    def __init__(self, first: int, stop: int = 5, *, manual: bool = False) -> None:
        super().__init__()
        self.other = torch.nn.Linear(3, 3)
        self.first, self.stop = first, stop
        self.automatic_optimization = not manual

    def on_fit_start(self) -> None:
        self.other.requires_grad_(requires_grad=self.first == 0)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        self.other.requires_grad_(requires_grad=self.first <= batch_idx < self.stop)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(self.other(batch)).square().mean()
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            stepping = batch_idx % 2 == 1
            with optimizer.toggle_model(sync_grad=stepping):
                self.manual_backward(loss)
            if stepping:
                optimizer.step()
                optimizer.zero_grad()
        return loss


class Forgetful(ZeroReducer):
    """Notes when the parameters change."""

    def __init__(self) -> None:
        super().__init__(servers=1)
        self.forgotten: list[int] = []

    def forget_parameters(self) -> None:
        self.forgotten.append(self.accounting.reductions)


@pytest.mark.usefixtures("alone")
def test_errors_that_are_fed_back_are_forgotten_with_their_parameters() -> None:
    """Not at the first step: a resumed training may release parameters before it."""
    for at, forgotten in [(0, []), (2, [2])]:
        reducer = Forgetful()
        fit(Turns(at), OptINCDDPStrategy(reducer))
        assert reducer.forgotten == forgotten
        assert reducer.layout is not None
        assert reducer.layout.values == 12 + 4


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("manual", [False, True])
def test_parameters_may_not_change_while_gradients_are_accumulated(manual: bool) -> None:
    """Released and frozen again before the step they would keep a gradient of one server."""
    accumulate = {} if manual else {"accumulate_grad_batches": 2}
    fit(Turns(2, manual=manual), OptINCDDPStrategy(ideal()), **accumulate)
    for first, stop in [(1, 5), (2, 3), (0, 3)]:
        with pytest.raises(ConfigurationError, match=r"'other.bias', 'other.weight' changed whil"):
            fit(Turns(first, stop, manual=manual), OptINCDDPStrategy(ideal()), **accumulate)


@pytest.mark.usefixtures("alone")
def test_a_second_training_begins_anew_with_the_same_parameters() -> None:
    reducer, model = Forgetful(), Line()
    strategy = OptINCDDPStrategy(reducer)
    trainer = fit(model, strategy)
    trainer.fit_loop.max_epochs = 2
    data: Any = torch.randn(5, 4, 3)
    trainer.fit(model, DataLoader(data, batch_size=None))
    assert reducer.accounting.reductions == 10
    assert reducer.forgotten == []


def fp16() -> dict[str, Any]:
    scaler = torch.amp.GradScaler("cpu")
    return {"plugins": [MixedPrecision("16-mixed", device="cpu", scaler=scaler)]}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (Line, {"sync_batchnorm": True}, "sync_batchnorm=true needs CUDA"),
        (Line, "fp16", "needs optinc.quantization.nonfinite=propagate"),
    ],
)
def test_what_cannot_be_trained_is_refused(model: Any, settings: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit(model(), OptINCDDPStrategy(ideal()), **(fp16() if settings == "fp16" else settings))


@pytest.mark.usefixtures("alone")
def test_a_static_graph_with_steps_by_hand_is_refused() -> None:
    strategy = OptINCDDPStrategy(ideal(), static_graph=True)
    with pytest.raises(ConfigurationError, match=r"but Manual.automatic_optimization is False"):
        fit(Manual(), strategy)


@pytest.mark.usefixtures("alone")
def test_the_mean_of_whole_numbers_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fit(Line(), OptINCDDPStrategy(ideal()))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    count = torch.tensor(121)
    assert float(trainer.strategy.reduce(count)) == 60.5
    assert int(count) == 121, "not overwritten"
    assert trainer.strategy.reduce(count, reduce_op="sum") is count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout_seconds": 0}, "strategy.timeout_seconds must be positive"),
        ({"most_skipped_steps": 0}, "strategy.most_skipped_steps must be at least 1"),
        ({"error_every": -1}, "strategy.error_every must be 0"),
        ({"ddp_comm_hook": print}, "strategy.ddp_comm_hook cannot be set"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OptINCDDPStrategy(ideal(), **settings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=5"], "5 servers do not fit a switch with optinc.servers=4 inputs"),
        (["trainer.devices=auto"], "trainer.devices must be an integer of at least 1, got auto"),
        (["trainer.devices=2", "data.batch_size=1"], "data.batch_size=1 must be at least"),
        (
            ["trainer.devices=2", "optinc.servers=3", "optinc.bits=2", "optinc/fidelity=ideal"],
            r"average of zeros, 2 \* 2 / 3, is no integer code; legal numbers of servers: \[3\]",
        ),
    ],
)
def test_numbers_of_servers_that_cannot_be_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        job(tmp_path, *TINY, "strategy=ddp", *overrides)


def test_a_sweep_of_real_servers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = ["strategy=ddp", "trainer.devices=2"]
    assert command("-m", *TINY, *real, "seed=1,2", f"hydra.sweep.dir={tmp_path}") == 2
    assert "strategy=ddp cannot be swept with -m" in capsys.readouterr().err
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.usefixtures("alone")
def test_a_group_of_another_size_is_refused() -> None:
    fit(Line(), OptINCDDPStrategy(ideal()))
    with pytest.raises(ValueError, match="the group has 1 servers, the reducer 2"):
        ideal(2).all_reduce(torch.zeros(3), ServerGroup.world())


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("launcher", "devices", "inputs"),
    # Lightning starts the second server itself, or finds it started, which need not be said; two
    # of four inputs are dark.
    [(python, ["trainer.devices=2"], 2), (partial(torchrun, 2), [], 4)],
    ids=["lightning", "torchrun"],
)
def test_run_py_with_both_strategies_ends_in_identical_weights(
    launcher: Callable[..., Any], devices: list[str], inputs: int, tmp_path: Path
) -> None:
    steps = [*TINY, "trainer.max_steps=6", f"optinc.servers={inputs}"]
    folder = f"hydra.run.dir={tmp_path / 'ddp'}"
    measured = "strategy.error_every=1"
    launcher("run.py", *steps, "strategy=ddp", measured, *devices, folder)
    real = json.loads((tmp_path / "ddp" / "summary.json").read_text())
    virtual, _ = job(tmp_path / "virtual", *steps, "reducer.servers=2")
    assert real["weights_sha256"] == virtual["weights_sha256"]
    assert real["servers"] == virtual["servers"] == 2
    assert real["onn_sha256"] == virtual["onn_sha256"]
    assert real["val_loss"] == pytest.approx(virtual["val_loss"], rel=1e-5)
    assert real["quantization_error"] == pytest.approx(virtual["quantization_error"], rel=1e-3)
    # The second process wrote a log of its own and nothing else.
    assert {path.name for path in (tmp_path / "ddp").iterdir()} >= {"metrics.csv", "summary.json"}


def test_configurations_of_the_strategy_compose(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "strategy=ddp", "trainer.devices=2")
    assert cfg.strategy.timeout_seconds == 120
