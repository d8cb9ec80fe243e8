"""Values that can be saved, compared and restored: attributes, items, tensors, random states."""

from __future__ import annotations

import operator
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

IMMUTABLE = (int, float, complex, str, bytes, type(None))
"""Types whose values are equal where they look equal."""

MOST_ITEMS = 256
"""Items of a collection that are looked into; the collection itself may hold any number."""


class Entry(ABC):
    """One noted value.

    Attributes:
        place: Where it was found, for messages.
    """

    place: str

    @abstractmethod
    def current(self) -> Self:
        """Return ``self`` if the value is as it was noted, else a new entry."""

    @abstractmethod
    def restore(self) -> None:
        """Put the noted value back."""

    @abstractmethod
    def equals(self, other: Self) -> bool:
        """Tell whether two servers hold the same value here."""

    @abstractmethod
    def cleared(self) -> bool:
        """Tell whether the value says nothing of the past, such as zero or an empty list."""

    def merged(self, before: Self, now: Self) -> tuple[Self, bool]:
        """Carry over to another server what happened to this server's value, ``before`` to ``now``.

        Args:
            before: Value of server 0 when all servers were noted.
            now: Value of server 0 after a change that every server would have made.

        Returns:
            The value of the server whose value ``self`` is, and whether it can only be guessed.
        """
        return now, not now.cleared()


class Attributes(Entry):
    """The values of a dict, such as a module's attributes or buffers.

    Args:
        owner: The dict.
        place: Where it was found.
        ignored: Keys that are left alone.

    Attributes:
        content: Shallow copy of the dict.
    """

    def __init__(
        self,
        owner: dict[Any, Any],
        place: str,
        ignored: Collection[str] = (),
        content: dict[Any, Any] | None = None,
    ) -> None:
        self.owner = owner
        self.place = place
        self.ignored = ignored
        self.content = dict(owner) if content is None else content
        self.children = [
            (f"{place}.{key}" if place else str(key), value)
            for key, value in self.content.items()
            if key not in ignored and _may_hold(value)
        ][:MOST_ITEMS]

    def current(self) -> Self:
        """See :meth:`Entry.current`."""
        same = (
            len(self.owner) == len(self.content)
            and _all_same(self.owner.keys(), self.content.keys())
            and _all_same(self.owner.values(), self.content.values())
        )
        return self if same else type(self)(self.owner, self.place, self.ignored)

    def restore(self) -> None:
        """See :meth:`Entry.restore`."""
        if not self.ignored:
            self.owner.clear()
            self.owner.update(self.content)
            return
        for key in self.owner.keys() - self.content.keys() - set(self.ignored):
            del self.owner[key]
        self.owner.update({k: v for k, v in self.content.items() if k not in self.ignored})

    def equals(self, other: Self) -> bool:
        """See :meth:`Entry.equals`."""
        return self.content.keys() == other.content.keys() and all(
            _alike(value, other.content[key]) for key, value in self.content.items()
        )

    def cleared(self) -> bool:
        """See :meth:`Entry.cleared`."""
        return not self.content

    def merged(self, before: Self, now: Self) -> tuple[Self, bool]:
        """See :meth:`Entry.merged`."""
        guessed = False
        content = {k: v for k, v in self.content.items() if k not in before.content}
        for key, value in now.content.items():
            old = before.content.get(key, _MISSING)
            mine = self.content.get(key, _MISSING)
            if _same(value, old):  # no hook has touched it
                if mine is not _MISSING:
                    content[key] = mine
                continue
            content[key] = value
            guessed |= key not in self.ignored and not _alike(mine, old) and not _cleared(value)
        return type(self)(now.owner, now.place, now.ignored, content), guessed


class Items(Entry):
    """The items of a list, deque or set.

    Args:
        owner: The collection.
        place: Where it was found.
    """

    def __init__(self, owner: list[Any] | deque[Any] | set[Any], place: str) -> None:
        self.owner = owner
        self.place = place
        self.content = list(owner)
        self.children = [
            (f"{place}[{i}]", value) for i, value in enumerate(self.content) if _may_hold(value)
        ][:MOST_ITEMS]

    def current(self) -> Self:
        """See :meth:`Entry.current`."""
        same = len(self.owner) == len(self.content) and _all_same(self.owner, self.content)
        return self if same else type(self)(self.owner, self.place)

    def restore(self) -> None:
        """See :meth:`Entry.restore`."""
        self.owner.clear()
        if isinstance(self.owner, set):
            self.owner.update(self.content)
        else:
            self.owner.extend(self.content)

    def equals(self, other: Self) -> bool:
        """See :meth:`Entry.equals`."""
        return len(self.content) == len(other.content) and all(
            map(_alike, self.content, other.content)
        )

    def cleared(self) -> bool:
        """See :meth:`Entry.cleared`."""
        return not self.content


class Values(Entry):
    """The values of a tensor without gradient, with its memory and version.

    Values are put back in place, so that whatever refers to the tensor sees them: optimisers, lists
    of parameters, graphs. The version goes back too: autograd compares it in the backward pass,
    which runs with the values of the forward pass of the same server.

    Args:
        tensor: The tensor.
        place: Where it was found.
    """

    def __init__(self, tensor: Tensor, place: str) -> None:
        self.tensor = tensor
        self.place = place
        self.version = tensor._version
        self.memory = tensor.data
        self.values = tensor.detach().clone()

    @staticmethod
    def can_hold(tensor: Tensor) -> bool:
        """Tell whether a tensor can be changed in place without gradient."""
        return (
            type(tensor) in {Tensor, nn.Parameter}
            and tensor.layout == torch.strided
            and tensor.device.type != "meta"
            and not (tensor.requires_grad or tensor.is_nested or tensor.is_inference())
        )

    def current(self) -> Self:
        """See :meth:`Entry.current`."""
        tensor = self.tensor
        same = (
            tensor._version == self.version
            and tensor.data_ptr() == self.memory.data_ptr()
            and tensor.dtype == self.values.dtype
            # Changes by ``tensor.data`` leave the version as it is.
            and _same_values(tensor, self.values)
        )
        return self if same else type(self)(tensor, self.place)

    def restore(self) -> None:
        """See :meth:`Entry.restore`."""
        with torch.no_grad():
            if self.tensor.data_ptr() != self.memory.data_ptr():
                self.tensor.data = self.memory
            self.tensor.copy_(self.values)
        torch._C._autograd._unsafe_set_version_counter((self.tensor,), (self.version,))

    def equals(self, other: Self) -> bool:
        """See :meth:`Entry.equals`."""
        return _same_values(self.values, other.values)

    def cleared(self) -> bool:
        """See :meth:`Entry.cleared`."""
        return _cleared(self.values)


class ArrayValues(Entry):
    """The values of a NumPy array.

    Args:
        array: The array.
        place: Where it was found.
    """

    def __init__(self, array: np.ndarray[Any, Any], place: str) -> None:
        self.array = array
        self.place = place
        self.values = array.copy()

    def current(self) -> Self:
        """See :meth:`Entry.current`."""
        same = self.array.tobytes() == self.values.tobytes()
        return self if same else type(self)(self.array, self.place)

    def restore(self) -> None:
        """See :meth:`Entry.restore`."""
        self.array[...] = self.values

    def equals(self, other: Self) -> bool:
        """See :meth:`Entry.equals`."""
        return self.values.tobytes() == other.values.tobytes()

    def cleared(self) -> bool:
        """See :meth:`Entry.cleared`."""
        return not self.values.any()


class RandomState(Entry):
    """The state of a generator of random numbers.

    Args:
        generator: One of :attr:`TYPES`, or the module ``random`` or ``numpy.random``.
        place: Where it was found.
    """

    TYPES = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)

    def __init__(self, generator: Any, place: str) -> None:
        self.generator = generator
        self.place = place
        self.state = self._read()

    def current(self) -> Self:
        """See :meth:`Entry.current`."""
        same = _same_state(self._read(), self.state)
        return self if same else type(self)(self.generator, self.place)

    def restore(self) -> None:
        """See :meth:`Entry.restore`."""
        if isinstance(self.generator, np.random.Generator):
            self.generator.bit_generator.state = self.state
        elif _is_python_random(self.generator):
            self.generator.setstate(self.state)
        else:
            self.generator.set_state(self.state)

    def equals(self, other: Self) -> bool:
        """See :meth:`Entry.equals`."""
        return _same_state(self.state, other.state)

    def cleared(self) -> bool:
        """See :meth:`Entry.cleared`."""
        # Data loaders and other hooks draw random numbers, on all servers alike.
        return True

    def _read(self) -> Any:
        if isinstance(self.generator, np.random.Generator):
            return self.generator.bit_generator.state
        if _is_python_random(self.generator):
            return self.generator.getstate()
        return self.generator.get_state()


_MISSING = object()


def _is_python_random(generator: Any) -> bool:
    return isinstance(generator, random.Random) or generator is random


def _may_hold(value: Any) -> bool:
    """Tell whether a value may change without being replaced."""
    if isinstance(value, tuple):
        return any(map(_may_hold, value))
    return not isinstance(value, IMMUTABLE)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, IMMUTABLE) and bool(a == b))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _same_values(a, b)
    return _same(a, b)


def _same_values(a: Tensor, b: Tensor) -> bool:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    # NaN equals itself here.
    return torch.equal(a, b) or torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (a, b)))


def _all_same(a: Collection[Any], b: Collection[Any]) -> bool:
    # Nearly always the very same objects, which the first comparison sees without Python code.
    return all(map(operator.is_, a, b)) or all(map(_same, a, b))


def _same_state(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return all(_same_state(value, b[key]) for key, value in a.items())
    if isinstance(a, tuple) and any(isinstance(item, np.ndarray) for item in a):
        return all(map(_same_state, a, b))
    return bool(a == b)


def _cleared(value: Any) -> bool:
    """Tell whether a value is what one starts with: nothing, zero or infinity."""
    if isinstance(value, Tensor):
        return not value.any()
    if isinstance(value, float):
        return value in {0.0, float("inf"), float("-inf")}
    if isinstance(value, np.ndarray):
        return not value.any()
    if isinstance(value, (*IMMUTABLE, list, tuple, dict, set, deque)):
        return not value
    return True
