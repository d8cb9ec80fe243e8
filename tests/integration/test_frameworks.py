"""Every framework of docs/use_in_your_project.md, with two servers, against virtual servers.

Covers: optinc.attachments.attach, optinc.attachments.hf_trainer
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optinc.reducers.base import Reducer
from optinc.reducers.ring import RingReducer
from optinc.reducers.shipped import default_reducer
from optinc.strategies.flat_parameters import FlatParameters
from tests.forks import forked
from tests.integration.framework_servers import begin, network, rows, sections
from tests.processes import torchrun

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCE = "The same training in one process"
SHARDED = {"PyTorch: FSDP2", "PyTorch: HSDP"}
EXACT = [title for title in sections() if title not in {"", REFERENCE, *SHARDED}]
STEPS = 8

TOLERANCE = 0.1 * STEPS / 127
"""Of weights after sharded training, in units of the largest gradient: the learning rate times one
quantisation step of 8 bits for every step."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two servers found, by section."""
    found: list[dict[str, Any]] = [{}, {}]
    module = "tests.integration.framework_servers"
    folders = [tmp_path_factory.mktemp(name) for name in ("frameworks", "unified")]
    forked(2, module, str(folders[0]))
    # The forked processes have imported the other package of Lightning.
    torchrun(2, "-m", module, str(folders[1]), "unified")
    for folder in folders:
        for rank in range(2):
            found[rank].update(torch.load(folder / f"{rank}.pt", weights_only=True))
    return found


class VirtualServers:
    """Trains a module on the gradients of two servers, one after the other."""

    def __init__(self, module: nn.Module, reducer: Reducer) -> None:
        self.module, self.reducer = module, reducer
        self.layout = FlatParameters(module)
        reducer.lay_out([parameter.shape for parameter in self.layout.parameters])
        self.gradients_NP = torch.zeros(2, self.layout.size)
        self.optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        self.largest = 0.0

    def backward(self, server: int, loss: Tensor, *, add: bool = False) -> None:
        loss.backward()
        self.layout.take_gradients(self.gradients_NP[server], add=add)

    def step(self) -> None:
        self.largest = max(self.largest, float(self.gradients_NP.abs().max()))
        reduced_P = self.reducer(self.gradients_NP)
        self.layout.set_gradients(reduced_P, [True] * len(self.layout.parameters))
        self.optimizer.step()
        self.optimizer.zero_grad()


def replay(
    seen: list[list[tuple[Tensor, Tensor]]], reducer: Reducer
) -> tuple[dict[str, Tensor], float]:
    """Train the page's model by virtual servers on the rows that each server saw.

    Returns:
        The weights, and the largest value of all gradients.
    """
    model = begin()["Net"]()
    servers = VirtualServers(model, reducer)
    for batches in zip(*seen, strict=True):
        for server, (x, labels) in enumerate(batches):
            servers.backward(server, model(x, labels)["loss"])
        servers.step()
    return {name: p.detach() for name, p in model.named_parameters()}, servers.largest


def of_both(trained: list[dict[str, Any]], title: str) -> tuple[Any, dict[str, Tensor]]:
    """The rows that each server saw, and the weights, which must be equal on both."""
    first, second = (found[title] for found in trained)
    if "missing" in first:
        pytest.skip(first["missing"])
    assert len(first["seen"]) == STEPS
    for name, weights in first["weights"].items():
        assert torch.equal(weights, second["weights"][name]), name
    seen = [first["seen"], second["seen"]]
    assert not torch.equal(seen[0][0][0], seen[1][0][0]), "both servers saw the same rows"
    return seen, first["weights"]


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("title", EXACT)
def test_servers_end_in_the_weights_of_virtual_servers(
    title: str, trained: list[dict[str, Any]]
) -> None:
    seen, weights = of_both(trained, title)
    virtual, _ = replay(seen, default_reducer(2))
    assert equal(weights, virtual)


@pytest.mark.parametrize("title", sorted(SHARDED))
def test_sharded_servers_end_near_the_weights_of_virtual_servers(
    title: str, trained: list[dict[str, Any]]
) -> None:
    seen, weights = of_both(trained, title)
    exact, largest = replay(seen, RingReducer(servers=2))
    virtual, _ = replay(seen, default_reducer(2))
    for name in weights:
        assert (weights[name] - exact[name]).abs().max() < TOLERANCE * largest
        assert (weights[name] - virtual[name]).abs().max() < 2 * TOLERANCE * largest
    assert not equal(weights, exact)


def test_the_loop_of_the_page_is_that_of_the_first_example(trained: list[dict[str, Any]]) -> None:
    names = begin()
    exec(sections()[REFERENCE], names)  # noqa: S102
    loop = {name: p.detach() for name, p in names["model"].named_parameters()}
    _, weights = of_both(trained, "PyTorch: DistributedDataParallel")
    assert equal(weights, loop)


@pytest.mark.parametrize("title", [title for title in sections() if title])
def test_every_section_has_at_most_five_lines_of_optinc(title: str) -> None:
    lines = [line for line in sections()[title].splitlines() if "optinc" in line.lower()]
    assert 1 <= len(lines) <= 5


def same(trained: list[dict[str, Any]], name: str, *modules: nn.Module) -> None:
    expected = [p.detach() for module in modules for p in module.parameters()]
    for found in trained:
        assert all(torch.equal(a, b) for a, b in zip(found[name], expected, strict=True))


def test_two_models_with_two_optimisers(trained: list[dict[str, Any]]) -> None:
    generator = VirtualServers(network(0, 20), default_reducer(2))
    critic = VirtualServers(network(1, 30), default_reducer(2))
    for step in range(3):
        made = [generator.module(rows(server, step)) for server in range(2)]
        for server in range(2):
            loss = critic.module(made[server].detach()).square().mean()
            critic.backward(server, loss - critic.module(rows(server, 50 + step)).mean())
        critic.step()
        for server in range(2):
            generator.backward(server, critic.module(made[server]).mean())
        generator.step()
        critic.optimizer.zero_grad()
    same(trained, "adversarial", generator.module, critic.module)


def test_accumulated_gradients(trained: list[dict[str, Any]]) -> None:
    servers = VirtualServers(network(0, 20), default_reducer(2))
    for step in range(3):
        for server in range(2):
            for add, number in enumerate((step, 50 + step)):
                loss = servers.module(rows(server, number)).square().mean()
                servers.backward(server, loss, add=bool(add))
        servers.step()
    same(trained, "accumulating", servers.module)


def test_a_server_without_inputs_joins_with_zeros(trained: list[dict[str, Any]]) -> None:
    servers = VirtualServers(network(0, 20), default_reducer(2))
    for step in range(3):
        servers.gradients_NP.zero_()
        for server in range(1 if step else 2):
            servers.backward(server, servers.module(rows(server, step)).square().mean())
        servers.step()
    same(trained, "uneven", servers.module)


def test_a_layer_unused_on_one_server_is_the_same_error_on_both(
    trained: list[dict[str, Any]],
) -> None:
    for found in trained:
        assert found["unused"].startswith(
            "ConfigurationError: server 1: parameters '1.weight', '1.bias' got no gradient"
        )
