"""Split of a batch over servers as by ``DistributedSampler``: rows k, k+N, k+2N, ..."""

from __future__ import annotations

from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from optinc.errors import ConfigurationError


def split_batch(batch: Any, servers: int) -> list[Any]:
    """Split a batch into one shard per server.

    Tensors are split along their first dimension, and so are lists of plain values (such as file
    names) with one value a row. Mappings, tuples, named tuples, dataclasses and lists are split
    item by item; tensors without dimensions and other values go to every server.

    Args:
        batch: Any collection that holds at least one tensor with a batch dimension.
        servers: Number of servers N.

    Returns:
        N collections of the type of ``batch``; the k-th holds rows k, k+N, k+2N, ...

    Raises:
        ConfigurationError: If the batch has fewer rows than servers, its tensors disagree on the
            number of rows, or it holds no tensor to split.
    """
    rows = _count_rows(batch)
    if rows < servers:
        raise ConfigurationError(
            f"a batch of {rows} rows cannot be split over {servers} servers; "
            f"data.batch_size must be at least optinc.servers={servers}, and a smaller last batch "
            "must be dropped"
        )
    return [_shard(batch, slice(k, None, servers), rows) for k in range(servers)]


def _count_rows(batch: Any) -> int:
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.ndim:
            sizes.append(tensor.shape[0])
        return tensor

    apply_to_collection(batch, Tensor, note)
    if not sizes:
        raise ConfigurationError(
            f"cannot split a batch of type {type(batch).__name__} over servers: it holds no tensor "
            "with a batch dimension; return tensors, or tuples, lists and dicts of them"
        )
    if len(set(sizes)) > 1:
        raise ConfigurationError(
            "cannot split a batch over servers: its tensors have different first dimensions "
            f"{sorted(set(sizes))}; every tensor with dimensions must have one row per sample"
        )
    return sizes[0]


def _shard(batch: Any, rows: slice, size: int) -> Any:
    def take(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows] if value.ndim else value
        if len(value) == size and all(isinstance(v, (str, bytes, int, float)) for v in value):
            return value[rows]
        return [_shard(item, rows, size) for item in value]

    return apply_to_collection(batch, (Tensor, list), take)
