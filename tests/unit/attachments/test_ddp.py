"""``optinc.attach`` on DistributedDataParallel, with one server in this process.

Covers: optinc.attachments.ddp, optinc.attachments.servers, optinc.attachments.backward
"""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import optinc
from optinc.attachments.ddp import DDPAttachment
from optinc.errors import (
    ConfigurationError,
    DivergedError,
    NonFiniteGradientError,
    ServerLostError,
)
from optinc.reducers.ring import RingReducer
from tests.unit.attachments.groups import alone, ideal


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path) -> Iterator[None]:
    with alone(tmp_path):
        yield


class Layers(nn.Module):
    """Layers in several buckets, of which the first (the last bucket) may be left out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, 8)
        self.body = nn.Linear(8, 64)
        self.head = nn.Linear(64, 1)
        self.skip = False
        self.reentrant = False

    def forward(self, x_BF: Tensor) -> dict[str, Tensor]:
        if not self.skip:
            x_BF = self.first(x_BF)
        if self.reentrant:
            return {"out": checkpoint(self._rest, x_BF, use_reentrant=True)}
        return {"out": self._rest(x_BF)}

    def _rest(self, x_BF: Tensor) -> Tensor:
        return self.head(self.body(x_BF).tanh())


def inputs(seed: int = 1) -> Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))


def attached(
    reducer: Any = None, module: nn.Module | None = None, **settings: Any
) -> tuple[DistributedDataParallel, Any]:
    settings = {"bucket_cap_mb": 0.001, **settings}
    model = DistributedDataParallel(Layers() if module is None else module, **settings)
    return model, optinc.attach(model, ideal() if reducer is None else reducer)


def loss(model: nn.Module, seed: int = 1) -> Tensor:
    return model(inputs(seed))["out"].square().mean()


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


def expected(reducer: Any, *seeds: int) -> list[Tensor]:
    """The reduced sum of the gradients of a fresh model."""
    module = Layers()
    for seed in seeds or (1,):
        loss(module, seed).backward()
    flat_P = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    reducer.lay_out([parameter.shape for parameter in module.parameters()])
    parts = reducer(flat_P[None]).split([p.numel() for p in module.parameters()])
    return [part.view_as(p) for part, p in zip(parts, module.parameters(), strict=True)]


def equal(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bucket_cap_mb": 1000},
        {"gradient_as_bucket_view": True},
        {"static_graph": True},
        {"find_unused_parameters": True},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_every_backward_pass_leaves_the_reduced_gradient(settings: dict[str, Any]) -> None:
    model, reducer = attached(**settings)
    for step in range(3):
        model.zero_grad()
        loss(model).backward()
        assert equal(gradients(model), expected(ideal())), step
    assert reducer.accounting.reductions == 3


def test_fed_back_errors_are_not_sent_with_a_gradient_of_an_earlier_pass() -> None:
    """DDP sends it once more for a parameter without a new one, and throws the result away."""
    for clear in (True, False):
        feedback = attached(ideal(error_feedback=True), find_unused_parameters=True)
        plain = attached(find_unused_parameters=True)
        for model, reducer in (feedback, plain):
            loss(model).backward()
            if clear:
                model.zero_grad()
            else:
                model.module.head.zero_grad()
                model.module.body.zero_grad()
            model.module.skip = True
            if clear or not reducer.feeds_back:
                loss(model).backward()
                continue
            with pytest.raises(ConfigurationError, match=r"first\.weight.* and still had that of"):
                loss(model).backward()
            assert gradients(model) == [None] * 6


def test_gradients_that_are_accumulated_are_no_gradients_of_an_earlier_pass() -> None:
    model, reducer = attached(ideal(error_feedback=True), find_unused_parameters=True)
    with model.no_sync():
        loss(model).backward()
    model.module.skip = True
    loss(model).backward()
    assert reducer.accounting.reductions == 1


def test_without_a_reducer_a_shipped_onn_is_taken() -> None:
    model = DistributedDataParallel(Layers())
    with pytest.warns(UserWarning, match="1 servers on a switch with optinc.servers=2 inputs"):
        reducer = optinc.attach(model)
    assert reducer.describe()["fidelity"] == "table"
    loss(model).backward()
    assert reducer.accounting.reductions == 1


def test_accumulated_gradients_are_reduced_once() -> None:
    model, reducer = attached()
    with model.no_sync():
        loss(model, 1).backward()
        loss(model, 2).backward()
    assert reducer.accounting.reductions == 0
    loss(model, 3).backward()
    assert reducer.accounting.reductions == 1
    assert equal(gradients(model), expected(ideal(), 1, 2, 3))


def test_losses_of_two_forward_passes_are_reduced_once() -> None:
    model, reducer = attached()
    (loss(model, 1) + loss(model, 2)).backward()
    assert reducer.accounting.reductions == 1


def test_a_reentrant_checkpoint_does_not_look_like_an_unused_parameter() -> None:
    module = Layers()
    module.reentrant = True
    model, reducer = attached(module=module, static_graph=True)
    for _ in range(2):
        model.zero_grad()
        loss(model).backward()
    assert reducer.accounting.reductions == 2
    assert equal(gradients(model), expected(ideal()))


@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_unused_layer_is_named_before_the_optimiser_steps(step: int) -> None:
    """Whichever step it is: DDP itself is silent in the last one, and late in the others."""
    model, _ = attached()
    for _ in range(step):
        loss(model).backward()
    model.module.skip = True
    with pytest.raises(ConfigurationError) as caught:
        loss(model).backward()
    assert "'first.weight', 'first.bias' got no gradient" in str(caught.value)
    assert "find_unused_parameters=True" in str(caught.value)
    assert gradients(model) == [None] * 6


def test_an_output_outside_the_loss_is_named_too() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 1), nn.Linear(8, 1)

        def forward(self, x_BF: Tensor) -> tuple[Tensor, Tensor]:
            return self.first(x_BF), self.second(x_BF)

    model, _ = attached(module=Heads())
    with pytest.raises(ConfigurationError, match=r"'second.weight', 'second.bias' got no gradient"):
        model(inputs())[0].sum().backward()


def test_unused_parameters_are_zeros_where_ddp_looks_for_them() -> None:
    model, reducer = attached(find_unused_parameters=True)
    model.module.skip = True
    loss(model).backward()
    assert reducer.accounting.reductions == 1
    model.module.skip = False
    loss(model).backward()
    assert reducer.accounting.reductions == 2


def test_a_second_backward_pass_would_not_be_averaged() -> None:
    model, _ = attached()
    first = loss(model)
    first.backward(retain_graph=True)
    with pytest.raises(ConfigurationError, match=r"got a gradient that .* does not average"):
        first.backward()
    assert gradients(model) == [None] * 6


def test_a_call_of_the_inner_module_would_not_be_averaged() -> None:
    model, _ = attached()
    with pytest.raises(ConfigurationError, match=r"Call model\(...\), not model.module\(...\)"):
        loss(model.module).backward()
    with model.no_sync():
        loss(model.module).backward()


def test_gradients_of_inputs_alone_are_left_alone() -> None:
    """A discriminator whose parameters are frozen while the generator learns."""
    model, reducer = attached()
    x_BF = inputs().requires_grad_()
    model.requires_grad_(False)
    model(x_BF)["out"].sum().backward()
    assert reducer.accounting.reductions == 0
    assert x_BF.grad is not None
    model.requires_grad_(True)
    loss(model).backward()
    assert equal(gradients(model), expected(ideal()))


def test_a_parameter_that_becomes_trainable_is_refused_until_it_is_wrapped_again() -> None:
    module = Layers()
    module.first.requires_grad_(False)
    model, reducer = attached(module=module)
    loss(model).backward()
    module.first.requires_grad_(True)
    with pytest.raises(ConfigurationError, match=r"'first.weight', 'first.bias' has become train"):
        loss(model)
    again, same = attached(reducer, module=module)
    again.zero_grad()
    loss(again).backward()
    assert same is reducer
    assert equal(gradients(again), expected(ideal()))


def test_a_parameter_that_is_frozen_is_refused() -> None:
    model, _ = attached()
    loss(model).backward()
    model.module.first.requires_grad_(False)
    with pytest.raises(ConfigurationError, match=r"'first.bias' has been frozen since the model"):
        loss(model).backward()


@pytest.mark.parametrize("frozen_then_trainable", [False, True])
def test_a_change_between_wrapping_and_attaching_is_refused(frozen_then_trainable: bool) -> None:
    module = Layers()
    module.first.bias.requires_grad_(not frozen_then_trainable)
    model = DistributedDataParallel(module)
    module.first.bias.requires_grad_(frozen_then_trainable)
    with pytest.raises(ConfigurationError, match=r"parameter 'first.bias' (is tr|has been fr)"):
        optinc.attach(model, ideal())


def test_an_average_over_the_remaining_servers_is_refused() -> None:
    model, reducer = attached()
    with Join([model], divide_by_initial_world_size=True):
        loss(model).backward()
    assert reducer.accounting.reductions == 1
    with (
        pytest.raises(ConfigurationError, match="divide_by_initial_world_size=False"),
        Join([model], divide_by_initial_world_size=False),
    ):
        loss(model).backward()


def poison(model: nn.Module) -> Tensor:
    return model(inputs() * float("nan"))["out"].sum()


def test_nan_is_an_error_that_names_the_parameter_and_leaves_no_gradient() -> None:
    model, _ = attached()
    with pytest.raises(NonFiniteGradientError, match=r"server 0 is nan .* 'first.weight'"):
        poison(model).backward()
    assert gradients(model) == [None] * 6
    loss(model).backward()
    assert equal(gradients(model), expected(ideal()))


def test_a_skipped_step_leaves_no_gradient_and_ten_in_a_row_are_an_error() -> None:
    model, _ = attached(ideal(nonfinite="skip_step"))
    for _ in range(9):
        poison(model).backward()
        assert gradients(model) == [None] * 6
    loss(model).backward()
    assert equal(gradients(model), expected(ideal()))
    for _ in range(9):
        poison(model).backward()
    with pytest.raises(DivergedError, match="the last 10 steps had non-finite gradients"):
        poison(model).backward()


def test_an_error_in_the_user_s_backward_pass_is_raised_as_it_is() -> None:
    model, _ = attached()
    out = model(inputs())["out"]

    def fail(gradient: Tensor) -> None:
        raise KeyError("mine")

    out.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        out.sum().backward()


def test_a_lost_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, reducer = attached()

    def fail(*_: Any) -> None:
        raise RuntimeError("[gloo] Connection closed by peer")

    monkeypatch.setattr(reducer, "send_part", fail)
    with pytest.raises(ServerLostError, match="the timeout of init_process_group"):
        loss(model).backward()
    assert gradients(model) == [None] * 6


def test_two_models_train_in_turn() -> None:
    generator, first = attached()
    critic, second = attached(module=nn.Linear(1, 1))
    for _ in range(2):
        critic(generator(inputs())["out"].detach()).mean().backward()
        critic.requires_grad_(False)
        critic(generator(inputs())["out"]).mean().backward()
        critic.requires_grad_(True)
    assert (first.accounting.reductions, second.accounting.reductions) == (2, 2)


def test_nothing_of_an_attachment_outlives_its_model() -> None:
    """Its buffers, of several bytes a parameter, would fill the memory of who trains in turn."""
    model, _ = attached()
    loss(model).backward()
    del model
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is DDPAttachment]


def test_a_reducer_serves_one_model_and_a_model_has_one_reducer() -> None:
    model, reducer = attached()
    with pytest.raises(ConfigurationError, match="build a reducer for every model"):
        attached(reducer)
    with pytest.raises(ConfigurationError, match="has a communication hook"):
        optinc.attach(model, ideal())
    del model
    gc.collect()
    attached(reducer)


def test_models_that_cannot_be_reduced_are_refused_by_name() -> None:
    sparse = nn.Embedding(4, 2, sparse=True)
    with pytest.raises(ConfigurationError, match="'weight' has a sparse gradient"):
        attached(module=sparse)
    numbers = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(ConfigurationError, match="'weight' is complex"):
        attached(module=numbers)


def test_a_model_is_not_stored_with_its_reducer_but_its_module_is() -> None:
    model, _ = attached()
    with pytest.raises(ConfigurationError, match=r"store model\.module"):
        torch.save(model, io.BytesIO())
    torch.save(model.module, io.BytesIO())
    twin = copy.deepcopy(model.module)
    loss(twin).backward()


def test_other_reducers_can_be_attached() -> None:
    model, _ = attached(RingReducer(servers=1))
    loss(model).backward()
    assert equal(gradients(model), expected(RingReducer(servers=1)))
