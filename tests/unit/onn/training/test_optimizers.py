from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optinc.errors import ConfigurationError
from optinc.onn.network import OpticalNetwork
from optinc.onn.training import optimizers as module
from optinc.onn.training.optimizers import Muon, make_optimizers, one_cycle


def network_of(*structure: int) -> OpticalNetwork:
    return OpticalNetwork(
        structure, input_scale=1.0, input_offset=0.0, output_scale=1.0, output_offset=0.0
    )


def names_of(network: OpticalNetwork, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)] for group in optimizer.param_groups for p in group["params"]}


def test_muon_takes_the_weights_between_hidden_layers_and_adam_all_others() -> None:
    network = network_of(2, 8, 8, 8, 2)
    adam, muon = make_optimizers(network, "muon", learning_rate=0.01)
    assert (type(adam), type(muon)) == (torch.optim.Adam, Muon)
    assert names_of(network, muon) == {"layers.1.weight", "layers.2.weight"}
    every = {name for name, _ in network.named_parameters()}
    assert names_of(network, adam) == every - names_of(network, muon)


def test_adam_alone_takes_everything_that_muon_cannot() -> None:
    for network, name in ((network_of(2, 8, 8, 2), "adam"), (network_of(2, 8, 2), "muon")):
        (adam,) = make_optimizers(network, name, learning_rate=0.01)  # type: ignore[arg-type]
        assert isinstance(adam, torch.optim.Adam)
        assert names_of(network, adam) == {name for name, _ in network.named_parameters()}


class Dtypes(TorchDispatchMode):
    """Notes the data types of all results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {x.dtype for x in tree_leaves(result) if isinstance(x, torch.Tensor)}
        return result


class Denormals(TorchDispatchMode):
    """Counts the denormal numbers in the results of matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = self.found = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.products += 1
            tiny = torch.finfo(result.dtype).tiny
            self.found += int(((result != 0) & (result.abs() < tiny)).sum())
        return result


def test_no_product_of_muon_is_denormal_where_neurons_die_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processors may take 50 times as long for them; the momentum of a dead neuron decays there."""
    faded = 10.0 ** -torch.arange(39.0)  # rows from 1 down to denormals
    gradient = faded.unsqueeze(1) * torch.randn(39, 24, generator=torch.Generator().manual_seed(0))
    found, weights = [], []
    for vanishing in (module.VANISHING, 0.0):
        monkeypatch.setattr(module, "VANISHING", vanishing)
        weight = torch.nn.Parameter(torch.zeros(39, 24))
        weight.grad = gradient.clone()
        with Denormals() as denormals:
            Muon([weight], lr=0.1, weight_decay=0.0).step()
        assert denormals.products == 15
        found.append(denormals.found)
        weights.append(weight.detach())
    assert found[0] == 0 < found[1]
    assert not weights[0][9:].any()  # less than 1e-8 of the norm
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_takes_the_steps_of_torch_s_in_float32(nesterov: bool) -> None:
    """To the rounding of bfloat16, 2^-8, five times; momenta are torch's to the bit."""
    starts = [torch.randn(24, 16), torch.randn(8, 32)]
    kinds = {torch.optim.Muon: torch.bfloat16, Muon: torch.float32}
    trained: dict[type, list[torch.nn.Parameter]] = {}
    momenta: dict[type, list[torch.Tensor]] = {}
    for kind, dtype in kinds.items():
        trained[kind] = [torch.nn.Parameter(start.clone()) for start in starts]
        optimizer = kind(trained[kind], lr=0.1, weight_decay=0.0, nesterov=nesterov)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for weight in trained[kind]:
                weight.grad = torch.randn(weight.shape, generator=generator)
            with Dtypes() as dtypes:
                optimizer.step()  # type: ignore[no-untyped-call]
            assert (torch.bfloat16 in dtypes.seen) == (dtype is torch.bfloat16)
        momenta[kind] = [optimizer.state[w]["momentum_buffer"] for w in trained[kind]]
    for ours, theirs, start in zip(trained[Muon], trained[torch.optim.Muon], starts, strict=True):
        assert (ours - start).norm() > 0.5
        torch.testing.assert_close(ours - start, theirs - start, rtol=0, atol=0.01)
    assert all(map(torch.equal, momenta[Muon], momenta[torch.optim.Muon]))


def test_a_closure_of_muon_keeps_its_bfloat16() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    seen = []

    def closure() -> float:
        loss = weight.bfloat16().sum()
        seen.append(loss.dtype)
        loss.backward()  # type: ignore[no-untyped-call]
        return 3.0

    assert Muon([weight], lr=0.1).step(closure) == 3.0
    assert seen == [torch.bfloat16]


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"optimizer must be muon \| adam, got 'sgd'"):
        make_optimizers(network_of(2, 2), "sgd", learning_rate=0.01)  # type: ignore[arg-type]


def test_all_optimizers_follow_one_cycle_to_its_peak_and_back() -> None:
    network = network_of(2, 8, 8, 2)
    optimizers = make_optimizers(network, "muon", learning_rate=0.01)
    schedules = one_cycle(optimizers, learning_rate=0.01, steps=20)
    rates = []
    for _ in range(20):
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    adam, muon = ([pair[i] for pair in rates] for i in range(2))
    assert adam == muon
    assert max(adam) == pytest.approx(0.01)
    assert adam[0] < 0.001
    assert adam[-1] < 0.0001
    # A thirty percent share of the steps leads up.
    assert adam.index(max(adam)) == 5
