"""Calls at the end of a backward pass; ``loss.backward()`` raises their errors unchanged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.parallel.distributed import _find_tensors


def in_backward() -> bool:
    """Tell whether this thread runs a backward pass."""
    return torch._C._current_graph_task_id() != -1


class EndOfBackward:
    """Calls a function at the end of backward passes, after what DDP and FSDP do there.

    Args:
        callback: Called once for every backward pass that :meth:`watch` or :meth:`expect` notice.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._expected = False

    def watch(self, output: object) -> None:
        """Expect the end of the backward pass that begins with the output of a model.

        A reentrant checkpoint runs backward passes of its own inside, at whose end gradients are
        rightly missing. What the output's gradient queues belongs to the whole pass.
        """
        # An earlier pass may have failed before its end.
        self._expected = False
        for tensor in _find_tensors(output):  # type: ignore[no-untyped-call]
            if tensor.requires_grad:
                tensor.register_hook(self._begin)

    def expect(self) -> None:
        """Expect the end of the current backward pass, unless that is so already."""
        if not self._expected:
            self._expected = True
            queue = Variable._execution_engine.queue_callback
            # Autograd calls in the order of queueing. DDP may queue its last work after this.
            queue(lambda: queue(self._end))

    def _begin(self, _gradient: Tensor) -> None:
        self.expect()

    def _end(self) -> None:
        self._expected = False
        self._callback()


def clear_gradients(module: nn.Module) -> None:
    """Set all gradients to None, so that no optimiser can step with some that are not averaged."""
    for parameter in module.parameters():
        parameter.grad = None
