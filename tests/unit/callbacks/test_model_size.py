from __future__ import annotations

from torch import nn

from optinc.callbacks.model_size import size_text


def test_the_network_is_named_with_its_parameters_and_those_trained() -> None:
    model = nn.ModuleDict({"network": nn.Sequential(nn.Linear(99, 10), nn.Linear(10, 1))})
    assert size_text(model) == "Sequential: 1,011 parameters"
    model["network"].get_submodule("0").requires_grad_(False)
    assert size_text(model) == "Sequential: 1,011 parameters, 11 of them trained"
    assert size_text(nn.Linear(2, 1)) == "Linear: 3 parameters"
