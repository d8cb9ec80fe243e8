"""Split of a batch over servers as by ``DistributedSampler``: rows k, k+N, k+2N, ..."""

from __future__ import annotations

import copy
import dataclasses
import enum
import numbers
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, default_collate

from optinc.errors import ConfigurationError

PLAIN = (
    *(str, bytes, numbers.Number, np.generic, type(None), enum.Enum, Path),
    *(torch.Size, torch.dtype, torch.device, slice, range),
)
"""Values that belong to no sample: every server gets them."""

REMEDY = (
    "give the LightningModule or the LightningDataModule a method split_batch(batch, servers) that "
    "returns one shard per server"
)


def split_batch(
    batch: Any, servers: int, *, rows: Sequence[int] = (), stacked: bool = False
) -> list[Any]:
    """Split a batch into one shard per server.

    What is as long as the batch along its first axis is split by sample: tensors, arrays, lists and
    tuples of anything. Mappings, named tuples, dataclasses, and other lists and tuples are split
    field by field. Tensors without dimensions and plain values (a string, a number) go to every
    server. Shards share no memory with the batch or with each other.

    A list of tensors, or of what holds tensors, is the samples of a batch only if its items are
    alike (type, dtype, number of dimensions). Where two readings are left, such as two samples of
    eight rows or two fields of a batch of eight, ``rows`` and ``stacked`` decide.

    Args:
        batch: Any collection that holds a value for each sample.
        servers: Number of servers N.
        rows: Numbers of rows that the data loader is known to give.
        stacked: Whether the loader stacks all tensors (torch's ``default_collate``), so that a list
            of tensors holds fields, never samples.

    Returns:
        N collections of the type of ``batch``; the k-th holds rows k, k+N, k+2N, ...

    Raises:
        ConfigurationError: If the batch has fewer rows than servers, or something in it cannot be
            split for certain; names its place.
    """
    if servers == 1:
        return [batch]
    size = _rows(batch, servers, rows, stacked)
    if size < servers:
        raise ConfigurationError(
            f"a batch of {size} rows cannot be split over {servers} servers; "
            f"data.batch_size must be at least optinc.servers={servers}, and a smaller last batch "
            "must be dropped"
        )
    splitter = _Splitter(size, stacked)
    return [splitter.take(batch, slice(k, None, servers)) for k in range(servers)]


def check_shards(shards: Any, servers: int, owner: str) -> list[Any]:
    """Check what a user's ``split_batch`` returned.

    Raises:
        ConfigurationError: If it is not a list or tuple of one shard per server.
    """
    if not isinstance(shards, (list, tuple)) or len(shards) != servers:
        got = type(shards).__name__
        if isinstance(shards, (list, tuple)):
            got = f"{got} of {len(shards)}"
        raise ConfigurationError(
            f"{owner}.split_batch must return a list of {servers} shards, one per server, got {got}"
        )
    return list(shards)


@runtime_checkable
class TellsRows(Protocol):
    """A data loader whose data set makes whole batches, of whose rows its samplers tell nothing."""

    def batch_rows(self, *, last_batch: bool) -> list[int]:
        """Return the possible numbers of rows of a batch, or of the last batch of an epoch."""


def loader_rows(loader: Any, *, last_batch: bool) -> tuple[list[int], bool]:
    """Return what a data loader tells of its batches, for :func:`split_batch`.

    Args:
        loader: What a trainer trains on; only torch's ``DataLoader``, and a loader that has
            ``batch_rows``, tell anything.
        last_batch: Whether the batch is the last of its epoch, which may be smaller.

    Returns:
        Possible numbers of rows, and whether tensors are stacked.
    """
    if not isinstance(loader, DataLoader):
        return [], False
    if isinstance(loader, TellsRows):
        return loader.batch_rows(last_batch=last_batch), False
    sampler = loader.batch_sampler
    size = getattr(sampler, "batch_size", None)
    stacked = size is not None and loader.collate_fn is default_collate
    if not isinstance(size, int):
        return [], stacked
    rows = [size]
    samples = getattr(sampler, "sampler", None)
    if last_batch and isinstance(samples, Sized) and not getattr(sampler, "drop_last", False):
        rows.append(len(samples) % size or size)
    return rows, stacked


class _Splitter:
    """Splits batches of one size.

    Args:
        size: Rows of the batch.
        stacked: Whether lists of tensors are fields for certain.
    """

    def __init__(self, size: int, stacked: bool) -> None:
        self.size = size
        self.stacked = stacked

    def check(self, value: Any, place: str = "batch") -> None:
        """Check that a value can be split.

        Raises:
            ConfigurationError: If it cannot; names its place.
        """
        self.take(value, None, place)

    def take(self, value: Any, rows: slice | None, place: str = "batch") -> Any:
        """Return the rows of a value, or itself where no rows are given.

        Raises:
            ConfigurationError: If the rows cannot be told; names their place.
        """
        if isinstance(value, (Tensor, np.ndarray)):
            return self._take_array(value, rows, place)
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, PackedSequence):
            raise _undecided(place, "is a PackedSequence, which mixes the rows of its samples")
        fields = _fields(value)
        if fields is not None:
            parts = {
                key: self.take(item, rows, place + suffix) for key, (item, suffix) in fields.items()
            }
            return value if rows is None else _rebuilt(value, parts)
        if not isinstance(value, (list, tuple)):
            raise _undecided(place, f"is of type {type(value).__name__}")
        if self._holds_samples(value, place):
            return value if rows is None else value[rows]
        if value and not any(_holds_arrays(item) for item in value):
            raise _undecided(place, f"has {len(value)} items, the batch has {self.size} rows")
        items = [self.take(item, rows, f"{place}[{i}]") for i, item in enumerate(value)]
        return value if rows is None else type(value)(items)

    def _take_array(self, value: Tensor | np.ndarray, rows: slice | None, place: str) -> Any:
        if isinstance(value, Tensor) and (value.layout != torch.strided or value.is_nested):
            raise _undecided(place, f"is a tensor of layout {value.layout}")
        if value.ndim and len(value) != self.size:
            raise _undecided(
                place, f"has {len(value)} rows along its first axis, the batch has {self.size}"
            )
        if rows is None:
            return value
        part = value[rows] if value.ndim else value
        # Dense memory, as data loaders return it: kernels and view() see the same as under DDP.
        return part.clone() if isinstance(part, Tensor) else part.copy()

    def _holds_samples(self, value: Sequence[Any], place: str) -> bool:
        """Tell whether a list or tuple has an item for each sample."""
        if len(value) != self.size:
            return False
        if not any(_holds_arrays(item) for item in value):
            return True
        if self.stacked or len({_kind(item) for item in value if item is not None}) > 1:
            return False
        try:
            for item in value:
                self.check(item)
        except ConfigurationError:
            return True
        raise _undecided(
            place,
            f"has {self.size} items of {self.size} rows each, samples or fields of a batch; use a "
            "dict for fields, or",
        )


def _rows(batch: Any, servers: int, known: Sequence[int], stacked: bool) -> int:
    """Return the number of rows with which the whole batch can be split.

    Raises:
        ConfigurationError: If there is none, or more than one.
    """
    lengths = Counter(length for length in _lengths(batch) if length > 0)
    if not lengths:
        raise _undecided("batch", f"of type {type(batch).__name__} holds nothing with rows")
    expected = [size for size in dict.fromkeys(known) if size in lengths]
    for sizes in (expected, list(lengths)):
        possible = [size for size in sizes if _error(batch, size, stacked) is None]
        enough = [size for size in possible if size >= servers]
        if len(enough) > 1:
            readings = " or ".join(map(str, enough))
            raise _undecided(
                "batch", f"may have {readings} rows; use a dict for the fields of a batch, or"
            )
        if possible:
            size = (enough or possible)[0]
            if known and size > max(known):
                raise _undecided("batch", f"has {size} rows, its data loader gives {max(known)}")
            return size
    error = _error(batch, expected[0] if expected else lengths.most_common(1)[0][0], stacked)
    assert error is not None
    raise error


def _error(batch: Any, size: int, stacked: bool) -> ConfigurationError | None:
    """Return why a batch cannot be split as one of so many rows, None if it can."""
    try:
        _Splitter(size, stacked).check(batch)
    except ConfigurationError as error:
        return error
    return None


def _undecided(place: str, reason: str) -> ConfigurationError:
    join = " " if reason.endswith("or") else "; "
    return ConfigurationError(f"cannot split a batch over servers: {place} {reason}{join}{REMEDY}")


def _lengths(value: Any) -> Iterator[int]:
    """Yield the lengths of all tensors, arrays, lists and tuples in a batch, outermost first."""
    if isinstance(value, (Tensor, np.ndarray)):
        if value.ndim:
            yield len(value)
        return
    fields = _fields(value)
    if fields is not None:
        for item, _ in fields.values():
            yield from _lengths(item)
    elif isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        yield len(value)
        for item in value:
            yield from _lengths(item)


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim > 0
    fields = _fields(value)
    if fields is not None:
        return any(_holds_arrays(item) for item, _ in fields.values())
    return isinstance(value, (list, tuple)) and any(_holds_arrays(item) for item in value)


def _kind(value: Any) -> Any:
    """Return what the samples of a batch have in common."""
    if isinstance(value, (Tensor, np.ndarray)):
        return type(value), value.ndim, value.dtype
    if isinstance(value, numbers.Number):
        return numbers.Number
    if isinstance(value, (list, tuple)) and _fields(value) is None:
        return type(value), _kind(value[0]) if value else None
    return type(value)


def _fields(value: Any) -> dict[Any, tuple[Any, str]] | None:
    """Return the fields of a mapping, named tuple or dataclass and how they are written.

    None for anything else.
    """
    if isinstance(value, Mapping):
        return {key: (item, f"[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: (getattr(value, name), f".{name}") for name in value._fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: (getattr(value, name), f".{name}") for name in names}
    return None


def _rebuilt(value: Any, fields: dict[Any, Any]) -> Any:
    """Return a collection of the type of ``value`` with other fields."""
    if isinstance(value, defaultdict):
        return type(value)(value.default_factory, fields)
    if isinstance(value, Mapping):
        return type(value)(fields)  # type: ignore[call-arg]
    if isinstance(value, tuple):
        return type(value)(**fields)
    shard = copy.copy(value)
    for name, item in fields.items():
        object.__setattr__(shard, name, item)  # frozen dataclasses too
    return shard
