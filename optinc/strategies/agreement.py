"""Comparison of all servers' settings, ONNs and parameters before the first gradient."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch

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


def call_roll(
    group: ServerGroup, device: torch.device, *, problem: str | None, stopping: bool
) -> bool:
    """Tell the other servers, before a reduction, whether this one can go on; a collective.

    Args:
        group: All servers.
        device: Device of the collective.
        problem: Why this server cannot go on, None if it can.
        stopping: Whether this server has been told to stop after this step.

    Returns:
        Whether any server has been told to stop.

    Raises:
        ConfigurationError: On all servers, if one cannot go on; names it and its problem.
    """
    flags = torch.tensor([problem is not None, stopping], dtype=torch.int32, device=device)
    group.maximum(flags)
    failed, any_stopping = flags.tolist()
    if failed:
        problems = group.gather_objects(problem)
        rank, reason = next((r, p) for r, p in enumerate(problems) if p is not None)
        raise ConfigurationError(f"server {rank}: {reason}")
    return bool(any_stopping)


def any_server(group: ServerGroup, flag: bool, device: torch.device) -> bool:
    """Tell whether ``flag`` is true on any server; a collective."""
    flags = torch.tensor([flag], dtype=torch.int32, device=device)
    group.maximum(flags)
    return bool(flags.item())


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
    for i, (a, b) in enumerate(zip_longest(first, second)):
        if a != b:
            return f"{_quoted(a)} at position {i}", _quoted(b)
    return first, second


def _quoted(item: Any) -> str:
    return "nothing" if item is None else f"'{item}'"
