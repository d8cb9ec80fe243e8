"""Units of FSDP2 (``fully_shard``): their parameters, and how they are cut into shards."""

# Shape suffixes: N servers, S values of a unit in a shard with its padding.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from optinc.errors import ConfigurationError


class Piece(NamedTuple):
    """A parameter's place in the shards of its unit.

    Attributes:
        name: Its name in the model.
        values: Its number of values.
        start: First value in every server's shard.
        length: Values in every server's shard; those of the last servers are padded with zeros.
    """

    name: str
    values: int
    start: int
    length: int

    def of(self, shards_NS: Tensor) -> Tensor:
        """Return this parameter's part of all shards, a view."""
        return shards_NS[:, self.start : self.start + self.length]


def pieces_of(parameters: Sequence[tuple[str, nn.Parameter]], shards: int) -> list[Piece]:
    """Return the places of the parameters that are trained now, in the order given.

    Args:
        parameters: Names and sharded parameters of a unit, in the order of FSDP.
        shards: Number of shards.
    """
    pieces, start = [], 0
    for name, parameter in parameters:
        if parameter.requires_grad:
            length = _shard_length(parameter, shards)
            pieces.append(Piece(name, parameter.numel(), start, length))
            start += length
    return pieces


def is_sharded(model: object) -> bool:
    """Tell whether ``fully_shard`` was applied to a model."""
    return isinstance(model, FSDPModule)


def units_of(model: nn.Module) -> Iterator[tuple[FSDPModule, list[tuple[str, nn.Parameter]]]]:
    """Yield the units of ``fully_shard`` with the names and parameters that each exchanges.

    Modules that were sharded together, ``fully_shard([a, b])``, are one unit.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    units: dict[int, list[FSDPModule]] = {}
    for module in model.modules():
        if isinstance(module, FSDPModule):
            units.setdefault(id(module._get_fsdp_state()), []).append(module)
    for roots in units.values():
        managed: dict[int, nn.Parameter] = {}
        for root in roots:
            for module in _managed(root):
                managed.update({id(p): p for p in module.parameters(recurse=False)})
        yield roots[0], [(names[key], parameter) for key, parameter in managed.items()]


def _managed(module: nn.Module | FSDPModule) -> Iterator[nn.Module]:
    """Yield a module and those below that belong to its unit, in the order of FSDP."""
    assert isinstance(module, nn.Module)
    for child in module.children():
        if not isinstance(child, FSDPModule):
            yield from _managed(child)
    yield module


def shard_mesh(model: nn.Module) -> DeviceMesh:
    """Return the mesh over which all trainable parameters are sharded.

    Raises:
        ConfigurationError: If a parameter is not sharded, or over several dimensions.
    """
    if not hasattr(FSDPModule, "set_custom_reduce_scatter"):
        raise ConfigurationError(
            f"torch {torch.__version__} has no FSDPModule.set_custom_reduce_scatter, which "
            "optinc.attach needs; use torch 2.9 or newer"
        )
    meshes = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if not isinstance(parameter, DTensor):
            raise ConfigurationError(
                f"parameter '{name}' is trainable, but fully_shard does not reduce it: do not pass "
                "it as ignored_params"
            )
        if parameter.device_mesh.ndim != 1 or not isinstance(parameter.placements[0], Shard):
            raise ConfigurationError(
                f"parameter '{name}' is placed as {parameter.placements}; accepted: one sharded "
                'dimension. For HSDP, call fully_shard(model, mesh=mesh["shard"]) and '
                'optinc.attach(model, reducer, replicas=mesh["replicate"])'
            )
        meshes.add(parameter.device_mesh)
    if len(meshes) > 1:
        raise ConfigurationError("optinc.attach needs all parameters sharded over one mesh")
    return meshes.pop()


def _shard_length(parameter: nn.Parameter, shards: int) -> int:
    """Return a parameter's number of values in every shard, as FSDP pads them."""
    assert isinstance(parameter, DTensor)
    (placement,) = parameter.placements
    assert isinstance(placement, Shard)
    if placement.dim:
        return parameter.numel() // shards
    rows = parameter.shape[0]
    return -(-rows // shards) * (parameter.numel() // rows) if rows else 0
