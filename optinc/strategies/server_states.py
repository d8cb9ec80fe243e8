"""The state of each virtual server: buffers, frozen parameters, attributes, random state.

Under DDP every process has them for itself. N virtual servers have one module, whose state is
exchanged when another server computes.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric, MetricCollection

from optinc.errors import ConfigurationError
from optinc.strategies.lightning_package import pl
from optinc.strategies.state_entries import (
    IMMUTABLE,
    ArrayValues,
    Attributes,
    Entry,
    Items,
    RandomState,
    Values,
)

State = dict[int, Entry]
"""All that belongs to a server, by the identity of what holds it."""

INTERNAL = frozenset(vars(pl.LightningModule())) - {"training"}
"""Attributes of modules that are torch's or Lightning's own."""

FOREIGN = sys.stdlib_module_names | {
    *("numpy", "pandas", "torch", "torchvision", "torchmetrics", "transformers"),
    *("lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning", "peft"),
    *("datasets", "omegaconf", "tokenizers", "wandb"),
}
"""Packages whose objects hold nothing that a training step would change, modules apart."""


class ServerStates:
    """Lets N servers compute one after the other in one module, each with a state of its own.

    The state of a server is what it finds in the module and below: buffers, parameters without
    gradient, other tensors and arrays, attributes, the items of lists, dicts, sets and of users'
    own objects, and the states of generators of random numbers, global ones included. The metrics
    of ``torchmetrics`` belong to all servers together: processes add them up before they compute.

    All servers start alike. What changes outside of :meth:`server`, such as in a hook, changes on
    all of them. Between calls the module holds the state of server 0.

    Args:
        module: Module that the servers share.
        servers: Number of servers N.
        device: Device of the module.
    """

    def __init__(self, module: nn.Module, servers: int, device: torch.device) -> None:
        self._module = module
        self._generators: list[tuple[str, Any]] = [
            ("torch's random state", torch.default_generator),
            ("Python's random state", random),
            ("NumPy's random state", np.random),
        ]
        if device.type == "cuda":
            generator = torch.cuda.default_generators[device.index or 0]
            self._generators.append(("CUDA's random state", generator))
        self._states: list[State] = [{} for _ in range(servers)]
        self._loaded = 0
        self._warned: set[str] = set()

    def begin(self, *, broadcast_buffers: bool = False) -> None:
        """Note what has changed since a server computed last, on all servers.

        Args:
            broadcast_buffers: Give all servers the buffers of server 0, as DDP does before the
                first forward pass after an optimiser step.

        Raises:
            ConfigurationError: If a parameter was changed that the servers hold with different
                values.
        """
        if len(self._states) == 1:
            return
        assert self._loaded == 0, "the module holds the state of another server"
        before, walk = self._states[0], self._walk(self._states[0])
        now = walk.entries
        for server in range(1, len(self._states)):
            mine = self._states[server]
            merged = {**mine, **now}
            for key in mine.keys() & before.keys() & now.keys():
                if key not in walk.buffers or not broadcast_buffers:
                    merged[key] = self._merge(mine[key], before[key], now[key])
            self._states[server] = merged
        self._states[0] = now

    @contextmanager
    def server(self, server: int) -> Iterator[None]:
        """Compute with the state of one server; on an error, that of server 0 comes back."""
        if len(self._states) == 1:
            yield
            return
        self._load(server)
        try:
            yield
        except BaseException:
            self._store(server)
            self._load(0)
            raise
        self._store(server)

    def _load(self, server: int) -> None:
        present = self._states[self._loaded]
        for key, entry in self._states[server].items():
            if present.get(key) is not entry:
                entry.restore()
        self._loaded = server

    def _store(self, server: int) -> None:
        self._states[server] = self._walk(self._states[server]).entries

    def _walk(self, before: State) -> _Walk:
        walk = _Walk(before)
        walk.visit("", self._module)
        for place, generator in self._generators:
            walk.note(RandomState, generator, place)
        return walk

    def _merge(self, mine: Entry, before: Entry, now: Entry) -> Entry:
        """Return the value of a server after server 0's has changed or not."""
        if now is before:
            return mine
        if mine is before or mine.equals(before):
            return now
        merged, guessed = mine.merged(before, now)
        if guessed and isinstance(now, Values) and isinstance(now.tensor, nn.Parameter):
            raise ConfigurationError(
                f"parameter '{now.place}' has other values on every server and was then changed "
                "outside of training_step; the new value on servers other than 0 is unknown; use "
                "strategy=ddp"
            )
        if guessed and now.place not in self._warned:
            self._warned.add(now.place)
            rank_zero_warn(
                f"'{now.place or type(self._module).__name__}' of the module has other values on "
                "every virtual server and was changed outside of training_step: all servers go on "
                "with that of server 0, under strategy=ddp each with its own"
            )
        return merged


class TrainedWeights:
    """Refuses a training step that changes the parameters it trains.

    Every server would change what the others have computed with.

    Args:
        module: The module.
        thorough: Compare the values too, which finds changes by ``parameter.data`` at the price of
            a copy of all parameters; otherwise only what autograd keeps count of.
    """

    def __init__(self, module: nn.Module, *, thorough: bool) -> None:
        self._noted = [
            (name, p, p._version, p.data_ptr(), p.detach().clone() if thorough else None)
            for name, p in module.named_parameters()
            if p.requires_grad
        ]

    def check_unchanged(self) -> None:
        """Check that all is as it was.

        Raises:
            ConfigurationError: If a parameter has changed; names it.
        """
        for name, p, version, memory, values in self._noted:
            counted = (p._version, p.data_ptr()) == (version, memory)
            if not counted or (values is not None and not torch.equal(p, values)):
                raise ConfigurationError(
                    f"training_step changes parameter '{name}', which is trained: with "
                    "strategy=virtual_servers every server would change it again; do it in "
                    "on_train_batch_start, or use strategy=ddp"
                )


class _Walk:
    """Collects the state of the server that has just computed.

    Args:
        before: Its last known state; entries that did not change are taken over.

    Attributes:
        entries: The state.
        buffers: Keys of buffers and of the dicts that hold them.
    """

    def __init__(self, before: State) -> None:
        self._before = before
        self.entries: State = {}
        self.buffers: set[int] = set()
        self._seen: set[int] = set()

    def note(self, kind: Any, value: Any, *args: Any) -> Any:
        """Note a value and return its entry."""
        before = self._before.get(id(value))
        entry = kind(value, *args) if before is None else before.current()
        self.entries[id(value)] = entry
        return entry

    def visit(self, place: str, value: Any) -> None:
        """Note a value and what it holds."""
        if isinstance(value, IMMUTABLE) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if Values.can_hold(value):
                self.note(Values, value, place)
        elif isinstance(value, nn.Module):
            self._visit_module(place, value)
        elif isinstance(value, dict):
            self._visit_all(self.note(Attributes, value, place).children)
        elif isinstance(value, (list, deque, set)):
            self._visit_all(self.note(Items, value, place).children)
        elif isinstance(value, tuple):
            self._visit_all([(f"{place}[{i}]", item) for i, item in enumerate(value)])
        elif type(value) is np.ndarray:
            self.note(ArrayValues, value, place)
        elif isinstance(value, RandomState.TYPES):
            self.note(RandomState, value, place)
        elif _may_change(value):
            self._visit_all(self.note(Attributes, vars(value), place).children)

    def _visit_module(self, place: str, module: nn.Module) -> None:
        if isinstance(module, (Metric, MetricCollection)):
            return
        self._visit_all(self.note(Attributes, vars(module), place, INTERNAL).children)
        if isinstance(module, torch.jit.ScriptModule):
            self.buffers.update(map(id, module.buffers(recurse=False)))
            self._visit_all([*module.named_parameters(place), *module.named_buffers(place)])
            return
        self._visit_all(self.note(Attributes, module._parameters, place).children)
        buffers = self.note(Attributes, module._buffers, place)
        self._visit_all(buffers.children)
        self.buffers.update(id(buffer) for _, buffer in buffers.children)
        self.buffers.add(id(module._buffers))
        for name, child in module._modules.items():
            self.visit(f"{place}.{name}" if place else name, child)

    def _visit_all(self, children: Sequence[tuple[str, Any]]) -> None:
        for place, value in children:
            self.visit(place, value)


def _may_change(value: Any) -> bool:
    """Tell whether a value is an object of the user's own, which may count or remember."""
    package = type(value).__module__.partition(".")[0]
    return (
        package not in FOREIGN
        and not isinstance(value, (Dataset, DataLoader, pl.LightningDataModule, pl.Trainer))
        and isinstance(getattr(value, "__dict__", None), dict)
    )
