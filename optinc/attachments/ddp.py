"""Attachment to torch's DistributedDataParallel: hook, complete backward passes, errors."""

# Without `from __future__ import annotations`: DDP checks the annotations of the hook itself.

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from optinc.attachments.backward import EndOfBackward, clear_gradients, in_backward
from optinc.attachments.servers import Servers, check_parameters
from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.base import Reducer
from optinc.strategies.bucket_exchange import BucketExchange, exchange_groups
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.trainable import listed, with_gradient, would_lose_errors


class DDPAttachment:
    """Reduces the gradients of a ``DistributedDataParallel`` model, all of them or none.

    DDP reduces in the first backward pass after a forward pass that synchronises (``armed``), when
    every parameter has its gradient. It says nothing where some parameter gets none, where a second
    backward pass adds to reduced gradients, or where a gradient comes from a call of the inner
    module: servers then go on with different weights. So every gradient that arrives is noted, and
    the end of every backward pass checks them.

    Args:
        model: The wrapped model.
        reducer: Averages the gradients; None takes a shipped one.

    Attributes:
        reducer: The reducer in use.

    Raises:
        ConfigurationError: See :func:`optinc.attachments.attach.attach`.
    """

    def __init__(self, model: DistributedDataParallel, reducer: Reducer | None) -> None:
        if model._comm_hooks:
            raise ConfigurationError(
                "optinc.attach: this DistributedDataParallel model has a communication hook "
                f"({model._comm_hooks[0][0].__qualname__}), and DDP takes one; wrap the module anew"
            )
        device = check_parameters(model.module)
        self._layout = FlatParameters(model.module)
        self._known = {id(parameter) for parameter in self._layout.parameters}
        self._check_wrapped(model)
        servers = Servers(
            reducer,
            model=model,
            layout=self._layout,
            group=model.process_group,
            device=device,
        )
        self._servers, self.reducer = servers, servers.reducer
        self._layout = FlatParameters(model.module, alignment=self.reducer.alignment)
        shapes = [parameter.shape for parameter in self._layout.parameters]
        self.reducer.lay_out(shapes, self._layout.names)
        self._exchange = BucketExchange(
            self.reducer,
            self._layout,
            **exchange_groups(servers.group, device),
            attendance=servers.attendance,
            device=device,
        )
        self._model = ref(model)
        self._armed = self._local = self._reduced = False
        self._arrived: set[int] = set()
        self._kept: set[int] = set()
        self._accumulated = False
        self._end = EndOfBackward(self._check)
        model.register_comm_hook(None, self._hook)
        self._follow(model)

    def __reduce__(self) -> Any:
        """Refuse to be stored with the model.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "a model with an attached reducer cannot be stored or copied as an object, since a "
            "process group cannot: store model.module or its state_dict(), and attach again"
        )

    def _follow(self, model: DistributedDataParallel) -> None:
        """Watch forward passes and gradients, in place of an attachment to an older wrapper."""
        attachment = ref(self)

        def arrived(parameter: Tensor) -> None:
            # The collector does not see cycles through parameters: all of this would stay in memory
            # after the model. DDP keeps the attachment, by its communication hook.
            found = attachment()
            if found is not None:
                found._gradient_arrived(parameter)

        for handle in _handles.pop(model.module, []):
            handle.remove()
        _handles[model.module] = [
            parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]
            for parameter in self._layout.parameters
        ]
        model.register_forward_pre_hook(self._before_forward)
        model.register_forward_hook(self._after_forward)

    def _hook(
        self,
        state: object,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> Future[Tensor]:
        """Take a bucket of gradients from DDP; the last one reduces them all."""
        future = self._exchange.hook(state, bucket)
        if bucket.is_last():
            self._armed = False
            if in_backward():
                self._reduced = True
            else:
                # A server without further inputs, which `Join` lets take part with zeros.
                self._finish()
        return future

    def _before_forward(self, model: DistributedDataParallel, _inputs: Any) -> None:
        if not torch.is_grad_enabled() or not model.require_backward_grad_sync:
            return
        self._check_trainable(model)
        if model._join_config.enable and not model._divide_by_initial_world_size:
            raise ConfigurationError(
                "Join(divide_by_initial_world_size=False) averages over the servers that have "
                "inputs left, a reducer over all: leave it True"
            )

    def _after_forward(self, model: DistributedDataParallel, _inputs: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        self._local = not model.require_backward_grad_sync
        if self._local:
            return
        self._armed = True
        self._arrived.clear()
        self._exchange.begin()
        self._end.watch(output)

    def _gradient_arrived(self, parameter: Tensor) -> None:
        model = self._model()
        if model is None:
            return
        if self._armed:
            if not self._arrived:
                self._kept = self._left_from_before(model, parameter)
            self._arrived.add(id(parameter))
            self._end.expect()
        elif self._local:
            self._accumulated = True
        elif model.require_backward_grad_sync:
            clear_gradients(model)
            name = self._names({id(parameter)})
            raise ConfigurationError(
                f"{name} got a gradient that DistributedDataParallel does not average: it averages "
                "one backward pass after each call of the wrapped model. Call model(...), not "
                "model.module(...); add up losses of several calls before backward(); and "
                "accumulate gradients inside model.no_sync()"
            )

    def _check(self) -> None:
        """Raise what went wrong in this backward pass, on the thread that called it."""
        arrived, self._arrived = self._arrived, set()
        reduced, self._reduced = self._reduced, False
        if reduced:
            stale, self._kept, self._accumulated = self._kept - arrived, set(), False
            self._finish()
            if stale:
                self._refuse_stale(stale)
        elif self._armed and arrived:
            self._refuse_missing(self._known - arrived)

    def _finish(self) -> None:
        model = self._model()
        assert model is not None
        skipped = False
        try:
            with self._servers.attendance.watch():
                self._exchange.finish()
        except SkipStep:
            # Without gradients the optimiser changes nothing, not even its own state.
            skipped = True
            clear_gradients(model)
        except NonFiniteGradientError as error:
            clear_gradients(model)
            raise error.with_parameter(self._layout.names, self._layout.sizes) from None
        except Exception:
            clear_gradients(model)
            raise
        self._servers.note(skipped=skipped)

    def _left_from_before(self, model: DistributedDataParallel, first: Tensor) -> set[int]:
        """Return the parameters with a gradient of an earlier reduction, if that is no good.

        DDP sends it once more for a parameter that gets none in this pass, and throws the result
        away; a server would take its errors for sent.
        """
        if not self.reducer.feeds_back or not model.find_unused_parameters or self._accumulated:
            return set()
        return with_gradient(self._layout) - {id(first)}

    def _refuse_stale(self, stale: set[int]) -> None:
        model = self._model()
        assert model is not None
        clear_gradients(model)
        raise ConfigurationError(would_lose_errors(self._layout, stale))

    def _refuse_missing(self, missing: set[int]) -> None:
        """Raise on all servers, also on those that wait to reduce, what this one lacks."""
        frozen = {id(p) for p in self._layout.parameters if not p.requires_grad}
        if missing & frozen:
            problem = (
                f"{self._names(missing & frozen)} has been frozen since the model was wrapped: no "
                "gradient was averaged. Wrap the module in DistributedDataParallel anew and attach "
                "again, or wrap it with find_unused_parameters=True"
            )
        else:
            problem = (
                f"{self._names(missing)} got no gradient in this backward pass, so none was "
                "averaged. Use every parameter and output in the loss, or wrap the module with "
                "find_unused_parameters=True"
            )
        self._exchange.begin(problem)
        self._finish()

    def _check_wrapped(self, model: DistributedDataParallel) -> None:
        """Refuse parameters that DDP left out, or that have changed since it was built."""
        buckets = model.reducer._get_zeros_like_grad_buckets()
        wrapped = {id(parameter) for bucket in buckets for parameter in bucket.parameters()}
        left_out = [
            name
            for name, parameter in zip(self._layout.names, self._layout.parameters, strict=True)
            if id(parameter) not in wrapped
        ]
        frozen = [
            name
            for name, parameter in model.module.named_parameters()
            if id(parameter) in wrapped - self._known
        ]
        _refuse_changed(left_out, "is trainable, but DistributedDataParallel does not reduce it")
        _refuse_changed(frozen, "has been frozen since DistributedDataParallel was built")

    def _check_trainable(self, model: DistributedDataParallel) -> None:
        """Refuse parameters that have become trainable: DDP would leave them to every server."""
        new = [
            name
            for name, parameter in model.module.named_parameters()
            if parameter.requires_grad and id(parameter) not in self._known
        ]
        _refuse_changed(new, "has become trainable since optinc.attach")

    def _names(self, parameters: set[int]) -> str:
        named = zip(self._layout.names, self._layout.parameters, strict=True)
        return listed([name for name, p in named if id(p) in parameters])


_handles: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()
"""Hooks on the parameters of every module that is wrapped by an attached model."""


def _refuse_changed(names: Sequence[str], what: str) -> None:
    if names:
        raise ConfigurationError(
            f"{listed(names)} {what}; wrap the module in DistributedDataParallel anew "
            "(without leaving parameters to be ignored or delayed) and attach again"
        )
