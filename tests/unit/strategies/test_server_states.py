"""Servers that take turns in one module.

Covers: optinc.strategies.server_states, optinc.strategies.state_entries
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchmetrics import MeanMetric

from optinc.errors import ConfigurationError
from optinc.strategies.server_states import ServerStates, TrainedWeights

CPU = torch.device("cpu")


class Remembering:
    """A user's object."""

    def __init__(self) -> None:
        self.values: list[float] = []


class Owner(nn.Module):
    """A module with one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(2, 1, bias=False).requires_grad_(False)
        nn.init.zeros_(self.teacher.weight)
        self.register_buffer("buffer", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.number, self.text = 0, "a"
        self.tensor, self.array = torch.zeros(2), np.zeros(2)
        self.list, self.dict = [0], Counter({"a": 0})
        self.deque, self.set = deque([0], maxlen=2), {0}
        self.nested = ({"inner": [torch.zeros(1)]},)
        self.object = Remembering()
        self.metric = MeanMetric()

    def change(self, by: float) -> None:
        self.teacher.weight.data.add_(by)
        self.buffer.add_(by)
        self.replaced = self.replaced + by
        self.number += int(by)
        self.text += "b"
        self.new = by
        self.tensor += by
        self.array += by
        self.list.append(int(by))
        self.dict["a"] += int(by)
        self.deque.append(by)
        self.set.add(by)
        self.nested[0]["inner"][0].add_(by)
        self.object.values.append(by)

    def state(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher.weight.tolist(),
            "buffer": self.buffer.tolist(),
            "replaced": self.replaced.tolist(),
            "attributes": (self.number, self.text, getattr(self, "new", None)),
            "tensor": self.tensor.tolist(),
            "array": self.array.tolist(),
            "list": list(self.list),
            "dict": dict(self.dict),
            "deque": list(self.deque),
            "set": set(self.set),
            "nested": self.nested[0]["inner"][0].tolist(),
            "object": list(self.object.values),
        }


def test_every_server_has_a_state_of_its_own_from_step_to_step() -> None:
    owner, states = Owner(), None
    alone = [Owner() for _ in range(3)]
    states = ServerStates(owner, 3, CPU)
    for _ in range(3):
        states.begin()
        for server in (2, 1, 0):
            with states.server(server):
                owner.change(server + 1.0)
                alone[server].change(server + 1.0)
                assert owner.state() == alone[server].state()
    states.begin()
    for server in (1, 2, 0):
        with states.server(server):
            assert owner.state() == alone[server].state()
    assert owner.state() == alone[0].state()


def test_random_states_belong_to_servers_and_what_hooks_draw_to_all() -> None:
    owner = Owner()
    # Not 1, with which other tests may have seeded the global ones.
    python = random.Random(97)  # noqa: S311
    owner.generators = [torch.Generator(), python, np.random.default_rng(97)]
    states = ServerStates(owner, 2, CPU)

    def draw() -> list[float]:
        mine, python, numpy = owner.generators
        return [
            torch.rand(()).item(),
            random.random(),  # noqa: S311
            np.random.random(),  # noqa: NPY002
            torch.rand((), generator=mine).item(),
            python.random(),
            numpy.random(),
        ]

    for _ in range(2):
        states.begin()
        drawn = []
        for server in (1, 0):
            with states.server(server):
                drawn.append(draw())
        assert drawn[0] == drawn[1]
        assert len(set(drawn[0])) == 6
        draw()  # such as a data loader
    states.begin()
    with states.server(1):
        draw()  # one more than server 0
    with states.server(0):
        pass
    states.begin()
    with states.server(1):
        second = draw()
    with states.server(0):
        draw()
        assert draw() == second


def test_metrics_belong_to_all_servers_together() -> None:
    owner = Owner()
    states = ServerStates(owner, 3, CPU)
    states.begin()
    for server in (2, 1, 0):
        with states.server(server):
            owner.metric.update(float(server))
    assert owner.metric.compute() == 1.0


def test_buffers_are_broadcast_and_parameters_are_not() -> None:
    owner = Owner()
    states = ServerStates(owner, 2, CPU)
    states.begin()
    for server in (1, 0):
        with states.server(server):
            owner.change(server + 1.0)
    states.begin(broadcast_buffers=True)
    with states.server(1):
        assert owner.buffer.tolist() == owner.replaced.tolist() == [1.0, 1.0]
        assert owner.teacher.weight.tolist() == [[2.0, 2.0]]


def test_what_a_hook_changes_changes_on_all_servers() -> None:
    owner = Owner()
    states = ServerStates(owner, 2, CPU)
    for _ in range(2):
        states.begin()
        for server in (1, 0):
            with states.server(server):
                owner.number += server + 1
                owner.list.append(server)
                owner.tensor += 1  # the same on both, as are the attributes that follow
                owner.dict["a"] += 1
                owner.mean = torch.ones(2)
        owner.text += "hook"
        owner.tensor += 10
        owner.dict["a"] += 10
        owner.mean = owner.mean + 10
        owner.list.clear()  # as at the end of an epoch
    states.begin()
    with states.server(1):
        assert (owner.number, owner.text, owner.list) == (4, "ahookhook", [])
        assert owner.tensor.tolist() == [22.0, 22.0]
        assert owner.dict["a"] == 22
        assert owner.mean.tolist() == [11.0, 11.0]
    with states.server(0):
        assert (owner.number, owner.list) == (2, [])


def test_a_hook_s_change_of_what_servers_hold_apart_is_a_warning_or_an_error() -> None:
    owner = Owner()
    states = ServerStates(owner, 2, CPU)

    def step() -> None:
        states.begin()
        for server in (1, 0):
            with states.server(server):
                owner.tensor += server
                owner.object.values.append(server)
                owner.teacher.weight.data.add_(server)

    step()
    owner.tensor.fill_(7.0)
    owner.object.values.append(3)
    with pytest.warns(UserWarning, match=r"'(tensor|object.values)' of the module has other"):
        states.begin()
    with states.server(1):
        assert owner.tensor.tolist() == [7.0, 7.0]
        assert owner.object.values == [0, 3]
    with states.server(0):
        assert owner.object.values == [0, 3]
    step()
    with torch.no_grad():
        owner.teacher.weight.add_(1.0)
    with pytest.raises(ConfigurationError, match=r"parameter 'teacher.weight' has other values"):
        states.begin()


def test_an_error_brings_back_the_state_of_server_0() -> None:
    owner = Owner()
    states = ServerStates(owner, 2, CPU)
    states.begin()
    before = owner.state()

    def interrupted() -> None:
        with states.server(1):
            owner.change(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert owner.state() == before


def test_a_shared_buffer_stays_shared() -> None:
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second._buffers["running_mean"] = first.running_mean
    states = ServerStates(nn.ModuleList([first, second]), 2, CPU)
    states.begin()
    for server in (1, 0):
        with states.server(server):
            first.running_mean += 1
    assert first.running_mean is second.running_mean
    assert first.running_mean.tolist() == [1.0, 1.0]


def test_backward_works_after_buffers_and_frozen_weights_have_moved_on() -> None:
    norm = nn.BatchNorm1d(2).eval()  # in evaluation mode autograd saves the running statistics
    frozen = nn.Linear(2, 2, bias=False).requires_grad_(False)
    nn.init.eye_(frozen.weight)
    module = nn.Sequential(frozen, norm)
    states = ServerStates(module, 2, CPU)
    states.begin()
    losses: dict[int, Any] = {}
    x = torch.ones(3, 2, requires_grad=True)
    for server in (1, 0):
        with states.server(server):
            norm.running_mean += server
            with torch.no_grad():
                frozen.weight.mul_(server + 2)
            losses[server] = module(x).sum()
    states.begin()
    gradients = {}
    for server in (1, 0):
        with states.server(server):
            (gradients[server],) = torch.autograd.grad(losses[server], x)
    assert gradients[1][0, 0] == pytest.approx(3.0, rel=1e-4)
    assert gradients[0][0, 0] == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_updates_the_buffers_of_its_own_server(reentrant: bool) -> None:
    servers, rows = 4, torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(1))

    def norm() -> nn.BatchNorm1d:
        return nn.BatchNorm1d(2)

    shared, alone = norm(), [norm() for _ in range(servers)]
    states = ServerStates(shared, servers, CPU)
    states.begin()
    losses: dict[int, Any] = {}

    def loss(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        return checkpoint(module, x, use_reentrant=reentrant).square().sum()  # type: ignore[no-any-return]

    for server in reversed(range(servers)):
        with states.server(server):
            losses[server] = loss(shared, rows[server])
    states.begin()
    for server in reversed(range(servers)):
        with states.server(server):
            losses[server].backward()
        loss(alone[server], rows[server]).backward()
        assert alone[server].num_batches_tracked == 2
    for server in range(servers):
        with states.server(server):
            for name, buffer in alone[server].named_buffers():
                assert torch.equal(shared.get_buffer(name), buffer)


def test_one_server_costs_nothing() -> None:
    owner = Owner()
    states = ServerStates(owner, 1, CPU)
    states.begin()
    with states.server(0):
        owner.change(1.0)
    assert owner.number == 1
    assert states._states == [{}]


@pytest.mark.parametrize(
    ("change", "thorough"),
    [
        (lambda weight: weight.detach().mul_(2.0), False),
        (lambda weight: setattr(weight, "data", weight.data * 2), False),
        (lambda weight: weight.data.mul_(2.0), True),
    ],
)
def test_a_changed_trained_parameter_is_refused_by_name(change: Any, thorough: bool) -> None:
    module = nn.Sequential(nn.Linear(2, 1))
    weights = TrainedWeights(module, thorough=thorough)
    weights.check_unchanged()
    change(module[0].weight)
    with pytest.raises(ConfigurationError, match=r"training_step changes parameter '0.weight'"):
        weights.check_unchanged()
