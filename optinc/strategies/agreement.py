"""Comparison of all servers' settings, ONNs and parameters before the first gradient."""

from __future__ import annotations

from typing import Any

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.strategies.flat_parameters import FlatParameters


def agree(reducer: Reducer, layout: FlatParameters, group: ServerGroup) -> None:
    """Compare reducer, ONN and parameter order of all servers.

    Collectives on tensors of different sizes abort or hang the processes, and parameters in
    different orders would mix up the gradients silently.

    Args:
        reducer: This server's reducer.
        layout: This server's parameters in flat order.
        group: All servers.

    Raises:
        ConfigurationError: On all servers, if one of them differs from server 0; names rank and
            key.
    """
    mine = {**reducer.identity(), "parameters": describe_parameters(layout)}
    everyone = group.gather_objects(mine)
    for rank, other in enumerate(everyone):
        for key in sorted({*everyone[0], *other}):
            if other.get(key) != everyone[0].get(key):
                here, there = _difference(everyone[0].get(key), other.get(key))
                raise ConfigurationError(
                    f"servers disagree on {key}: rank 0 has {here}, rank {rank} has {there}; all "
                    "servers must run the same code, settings and ONN"
                )


def describe_parameters(layout: FlatParameters) -> list[str]:
    """Return name, shape and dtype of every trainable parameter in flat order."""
    return [
        f"{name} {list(parameter.shape)} {str(parameter.dtype).removeprefix('torch.')}"
        for name, parameter in zip(layout.names, layout.parameters, strict=True)
    ]


def _difference(first: Any, second: Any) -> tuple[Any, Any]:
    """Return the first differing items of two lists, or the values themselves."""
    if not isinstance(first, list) or not isinstance(second, list):
        return first, second
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return f"'{a}' at position {i}", f"'{b}'"
    return f"{len(first)} of them", len(second)
