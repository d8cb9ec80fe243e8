"""The first steps of every attachment: choose, connect and compare the reducers of all servers."""

from __future__ import annotations

import warnings
from collections import Counter
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

from optinc.errors import ConfigurationError, DivergedError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.shipped import dark_inputs, default_reducer
from optinc.strategies.agreement import agree
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lost_servers import Attendance
from optinc.strategies.unsupported import check_gradients

MOST_SKIPPED = 10
"""Steps in a row that the policy ``skip_step`` may skip."""

_models: WeakKeyDictionary[Reducer, ReferenceType[nn.Module]] = WeakKeyDictionary()
"""The model to which every reducer is attached."""

_attached: Counter[str] = Counter()
"""Attachments of this process to every process group, by its name."""


class Servers:
    """The servers of one attachment, and the reducer that averages their gradients.

    Args:
        reducer: None takes :func:`~optinc.reducers.shipped.default_reducer`.
        model: The model whose gradients are reduced.
        layout: Its trainable parameters.
        group: The servers.
        device: Device of the gradients.

    Attributes:
        reducer: The reducer, connected to the servers, on ``device``.
        group: The servers.
        attendance: Progress of the servers, noted before each reduction.

    Raises:
        ConfigurationError: If the reducer is attached to another model, cannot average this number
            of servers, or differs between servers.
    """

    def __init__(
        self,
        reducer: Reducer | None,
        *,
        model: nn.Module,
        layout: FlatParameters,
        group: dist.ProcessGroup,
        device: torch.device,
    ) -> None:
        self.group = ServerGroup(group)
        self.reducer = default_reducer(self.group.size) if reducer is None else reducer
        holder = _models[self.reducer]() if self.reducer in _models else None
        # The same module may be wrapped anew, after its trainable parameters have changed.
        if holder is not None and getattr(holder, "module", holder) is not getattr(
            model, "module", None
        ):
            raise ConfigurationError(
                f"optinc.attach: this reducer is attached to a {type(holder).__name__}; "
                "build a reducer for every model"
            )
        self.reducer.connect(self.group.size)
        key = f"attach/{group.group_name}/{_attached[group.group_name]}"
        _attached[group.group_name] += 1
        self.attendance = Attendance(
            PrefixStore(key, _get_default_store()), rank=self.group.rank, size=self.group.size
        )
        agree(self.reducer, layout, self.group)
        _models[self.reducer] = ref(model)
        self.reducer.to(device)
        self._skipped = 0
        if (
            isinstance(self.reducer, OptINCReducer)
            and self.group.rank == 0
            and (warning := dark_inputs(self.reducer))
        ):
            warnings.warn(warning, stacklevel=4)

    def note(self, *, skipped: bool) -> None:
        """Count a skipped step, or start the count anew after any other.

        Raises:
            DivergedError: If :data:`MOST_SKIPPED` steps in a row were skipped.
        """
        self._skipped = self._skipped + 1 if skipped else 0
        if self._skipped >= MOST_SKIPPED:
            raise DivergedError(
                f"the last {self._skipped} steps had non-finite gradients and changed nothing; "
                "lower the learning rate, clip the gradients, or find the operation with "
                "torch.autograd.set_detect_anomaly(True) and nonfinite='raise'"
            )


def check_parameters(module: nn.Module) -> torch.device:
    """Refuse parameters whose gradients no reducer can average, by name.

    Returns:
        The device of the trainable parameters.

    Raises:
        ConfigurationError: If nothing is trainable, a gradient would be sparse or complex, or the
            parameters lie on several devices or on none.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ConfigurationError(f"{type(module).__name__} has no trainable parameter to reduce")
    check_gradients(module)
    first, device = named[0][0], named[0][1].device
    for name, parameter in named:
        if parameter.device != device:
            raise ConfigurationError(
                f"parameter '{first}' lies on {device}, parameter '{name}' on {parameter.device}; "
                "a reducer averages gradients on one device"
            )
    if device.type == "meta":
        raise ConfigurationError("the parameters lie on no device (meta): initialise them first")
    return device
