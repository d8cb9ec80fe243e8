from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from optinc.errors import ConfigurationError
from optinc.models.llama import LlamaLanguageModel
from optinc.models.resnet import ResNetClassifier
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.parameter_groups import parameter_groups


def groups(module: nn.Module, depth: int) -> list[tuple[str, slice]]:
    layout = FlatParameters(module)
    return parameter_groups(layout.names, layout.sizes, depth=depth)


def names(module: nn.Module, depth: int) -> list[str]:
    return [name for name, _ in groups(module, depth)]


def resnet() -> nn.Module:
    return ResNetClassifier(
        num_classes=10,
        depth=18,
        stem="imagenet",
        label_smoothing=0.0,
        optimizer=torch.optim.SGD,
        scheduler=torch.optim.lr_scheduler.ConstantLR,
    )


def llama() -> nn.Module:
    return LlamaLanguageModel(
        vocab_size=8,
        sequence_length=4,
        layers=3,
        hidden_size=4,
        heads=1,
        intermediate_size=4,
        attention_dropout=0.0,
        optimizer=torch.optim.SGD,
        scheduler=torch.optim.lr_scheduler.ConstantLR,
    )


def test_depth_one_tells_stages_and_two_tells_blocks_of_a_resnet() -> None:
    assert names(resnet(), 1) == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert names(resnet(), 2)[:4] == ["conv1", "bn1", "layer1.0", "layer1.1"]
    assert "layer2.0.downsample" in names(resnet(), 3)


def test_depth_three_tells_the_layers_of_a_llama() -> None:
    layers = [f"model.layers.{layer}" for layer in range(3)]
    assert names(llama(), 2) == ["model.embed_tokens", "model.layers", "model.norm", "lm_head"]
    assert names(llama(), 3) == ["model.embed_tokens", *layers, "model.norm", "lm_head"]


def test_a_model_of_one_layer_is_one_group() -> None:
    assert groups(nn.ModuleDict({"layer": nn.Linear(2, 3)}), 2) == [("layer", slice(0, 9))]


def test_parameters_of_the_root_are_groups_of_their_own() -> None:
    root = nn.Linear(2, 3)
    root.add_module("head", nn.Linear(3, 1))
    assert groups(root, 1) == [
        ("weight", slice(0, 6)),
        ("bias", slice(6, 9)),
        ("head", slice(9, 13)),
    ]


def test_no_parameters_are_no_groups() -> None:
    assert parameter_groups([], [], depth=2) == []


def test_a_depth_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="depth must be at least 1, got 0"):
        parameter_groups(["a.weight"], [1], depth=0)


@st.composite
def modules(draw: st.DrawFn, height: int = 4) -> nn.Module:
    """A tree of modules, each with up to two parameters of its own."""
    module = nn.Module()
    for place in range(draw(st.integers(0, 2))):
        module.register_parameter(f"p{place}", nn.Parameter(torch.zeros(draw(st.integers(0, 3)))))
    for child in range(draw(st.integers(0, 3)) if height else 0):
        module.add_module(f"m{child}", draw(modules(height - 1)))
    return module


@given(modules(), st.integers(1, 5))
def test_groups_are_all_of_the_gradient_in_flat_order_and_named_by_a_prefix(
    module: nn.Module, depth: int
) -> None:
    layout = FlatParameters(module)
    found = groups(module, depth)
    assert len({name for name, _ in found}) == len(found)
    edges = [0, *(place.stop for _, place in found)]
    assert [place.start for _, place in found] == edges[:-1]
    assert edges[-1] == layout.size
    for name, place in found:
        assert 1 <= len(name.split(".")) <= depth
        members = [
            own
            for own, part in zip(layout.names, layout.slices, strict=True)
            if place.start <= part.start and part.stop <= place.stop and part.start < part.stop
        ]
        assert all(f".{name}." in f".{member}." for member in members)
