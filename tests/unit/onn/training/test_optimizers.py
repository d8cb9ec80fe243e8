from __future__ import annotations

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.network import OpticalNetwork
from optinc.onn.training.optimizers import make_optimizers, one_cycle


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
    assert (type(adam), type(muon)) == (torch.optim.Adam, torch.optim.Muon)
    assert names_of(network, muon) == {"layers.1.weight", "layers.2.weight"}
    every = {name for name, _ in network.named_parameters()}
    assert names_of(network, adam) == every - names_of(network, muon)


def test_adam_alone_takes_everything_that_muon_cannot() -> None:
    for network, name in ((network_of(2, 8, 8, 2), "adam"), (network_of(2, 8, 2), "muon")):
        (adam,) = make_optimizers(network, name, learning_rate=0.01)  # type: ignore[arg-type]
        assert isinstance(adam, torch.optim.Adam)
        assert names_of(network, adam) == {name for name, _ in network.named_parameters()}


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
