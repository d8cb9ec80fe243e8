"""Flat gradients of the networks that are trained in the paper, and the reducers to compare."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.common.workloads import llama_model, resnet50_model
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.single import IdealSwitch, TableSwitch


def shapes_of(model: str) -> list[torch.Size]:
    """Return the shapes of a network's parameters.

    Args:
        model: ``resnet50`` (10 classes) or ``llama`` (8 layers, hidden 384).
    """
    with torch.device("meta"):
        network = (
            resnet50_model(classes=10, stem="imagenet")
            if model == "resnet50"
            else llama_model(vocabulary=256, sequence_length=128)
        )
    return [parameter.shape for parameter in network.parameters()]


def random_gradients(shapes: list[torch.Size], *, servers: int, seed: int = 0) -> Tensor:
    """Return random gradients [servers, P] with another scale for every parameter."""
    generator = torch.Generator().manual_seed(seed)
    gradients_NP = torch.randn(servers, sum(s.numel() for s in shapes), generator=generator)
    start = 0
    for shape in shapes:
        scale = 10.0 ** float(torch.empty(()).uniform_(-4, -1, generator=generator))
        gradients_NP[:, start : start + shape.numel()] *= scale
        start += shape.numel()
    return gradients_NP


def optinc(switch: OpticalSwitch, *, servers: int | None = None, backend: str) -> OptINCReducer:
    """Return the optical reducer."""
    return OptINCReducer(
        quantizer=BlockQuantizer(bits=switch.scenario.bits),
        switch=switch,
        servers=servers,
        backend=backend,  # type: ignore[arg-type]
    )


def shipped(bits: int, inputs: int) -> ONNArtifact:
    """Return the shipped ONN of Table I with all layers approximated."""
    scenario = make_scenario(bits=bits, servers=inputs, onn_inputs="auto", rounding="half_even")
    return zoo.load(None, scenario=scenario, hidden="table1", layers="all")


def ideal(bits: int, inputs: int) -> IdealSwitch:
    """Return a switch without an ONN."""
    return IdealSwitch(
        make_scenario(bits=bits, servers=inputs, onn_inputs="auto", rounding="half_even")
    )


def imperfect(onn: ONNArtifact, *, every: int, cache: str) -> TableSwitch:
    """Return a table of which one entry in ``every`` is wrong by one."""
    switch = TableSwitch(onn, cache=cache)
    switch.codes = switch.codes.clone()
    switch.codes[::every] ^= 1
    switch.wrong_inputs, switch.exact = len(switch.codes[::every]), False
    return switch


def peers(servers: int) -> dict[str, Callable[[], Reducer]]:
    """Return what a reader would compare with."""
    return {
        "torch fp16 hook": lambda: HalfPrecisionReducer(servers=servers, format="fp16"),
        "torch bf16 hook": lambda: HalfPrecisionReducer(servers=servers, format="bf16"),
        "torch PowerSGD hook, rank 4": lambda: PowerSGDReducer(
            servers=servers, rank=4, start_iteration=2
        ),
        "int8 blocks": lambda: Int8BlocksReducer(servers=servers, quantizer=BlockQuantizer(bits=8)),
        "QSGD": lambda: QSGDReducer(servers=servers),
    }
