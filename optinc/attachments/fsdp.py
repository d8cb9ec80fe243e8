"""Attachment to FSDP2 (``fully_shard``): the reduce-scatter, or the all-reduce of HSDP.

Each unit of ``fully_shard`` exchanges its gradients as soon as they are known. The reducer sees
the unit's parameters in the order of FSDP, whole, as they were before FSDP cut them into shards.
"""

# Shape suffixes: N servers, P gradient values of a unit, S of them in a shard with its padding.

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any
from weakref import WeakSet, ref

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from optinc.attachments.backward import EndOfBackward, clear_gradients
from optinc.attachments.servers import Servers, check_parameters
from optinc.attachments.sharded_units import Piece, pieces_of, shard_mesh, units_of
from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.base import Reducer
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.trainable import listed

_attached: WeakSet[FSDPModule] = WeakSet()
"""Units of ``fully_shard`` whose gradients a reducer averages."""


class FSDPAttachment:
    """Reduces the gradients of every unit of a sharded model.

    Args:
        model: The root of the sharded model.
        reducer: Averages the gradients; None takes a shipped one.
        replicas: Mesh over which shards are replicated; None reduces over the shards.

    Attributes:
        reducer: The reducer in use.

    Raises:
        ConfigurationError: See :func:`optinc.attachments.attach.attach`.
    """

    def __init__(
        self, model: nn.Module, reducer: Reducer | None, *, replicas: DeviceMesh | None
    ) -> None:
        check_parameters(model)
        if any(isinstance(m, FSDPModule) and m in _attached for m in model.modules()):
            raise ConfigurationError("optinc.attach: a reducer is attached to this sharded model")
        shards = shard_mesh(model)
        if reducer is not None and reducer.feeds_back:
            raise ConfigurationError(
                f"{type(reducer).__name__} feeds errors of the whole gradient back, which FSDP "
                "never holds; use a reducer without error feedback, or DistributedDataParallel"
            )
        mesh = _checked_mesh(shards, replicas)
        self._servers = Servers(
            reducer,
            model=model,
            layout=FlatParameters(model),
            group=mesh.get_group(),
            device=_device(mesh),
        )
        self.reducer = self._servers.reducer
        self._model = ref(model)
        self._device = _device(mesh)
        self._skipped = False
        self._reductions = 0
        self._end = EndOfBackward(self._finish)
        if replicas is not None:
            self._compare_replicas(model)
        model.register_forward_hook(self._after_forward)
        units = list(units_of(model))
        self._units = len(units)
        for number, (unit, parameters) in enumerate(units):
            exchange = UnitExchange(self, parameters, unit=number, shards=shards.size())
            if replicas is None:
                # The abstract class of the exchange has no public name.
                unit.set_custom_reduce_scatter(exchange)  # type: ignore[arg-type]
            else:
                unit.set_all_reduce_hook(exchange.average_replicas)
            _attached.add(unit)

    @property
    def rank(self) -> int:
        """Index of this server."""
        return self._servers.group.rank

    def reduce(
        self,
        gradient_P: Tensor,
        names: Sequence[str],
        sizes: Sequence[int],
        *,
        unit: int,
        problem: str | None,
    ) -> bool:
        """Average a unit's gradient [P] over the servers, in place.

        Args:
            gradient_P: Gradients of the unit's parameters, one after the other.
            names: Names of these parameters.
            sizes: Their numbers of values.
            unit: Number of the unit.
            problem: Why this server cannot reduce; all servers raise it.

        Returns:
            Whether the step goes on; otherwise the end of the backward pass clears all gradients.

        Raises:
            ConfigurationError: On all servers, if one has a problem or reduces another unit.
            NonFiniteGradientError: On all servers; names server and parameter.
            ServerLostError: If a server does not answer.
        """
        self._end.expect()
        self._reductions += 1
        try:
            with self._servers.attendance.watch():
                self._servers.attendance.sign()
                self._call_roll(unit, f"the unit of {listed(names)}", problem)
                self.reducer.lay_out([torch.Size([size]) for size in sizes])
                self.reducer.all_reduce(gradient_P, self._servers.group)
        except SkipStep:
            self._skipped = True
            return False
        except NonFiniteGradientError as error:
            self._clear()
            raise error.with_parameter(names, sizes) from None
        except Exception:
            self._clear()
            raise
        return True

    def _call_roll(self, number: int, place: str, problem: str | None = None) -> None:
        """Compare where the servers are: units of equal size would be mixed up in silence.

        Raises:
            ConfigurationError: On all servers, if one has a problem or is elsewhere.
        """
        group = self._servers.group
        flags = torch.tensor([problem is not None, number, -number], device=self._device)
        group.maximum(flags)
        failed, last, first = flags.tolist()
        if failed:
            problems = group.gather_objects(problem)
            server, reason = next((k, each) for k, each in enumerate(problems) if each is not None)
            raise ConfigurationError(f"server {server}: {reason}")
        if last != -first:
            places = group.gather_objects(place)
            server = next(k for k, each in enumerate(places) if each != places[0])
            raise ConfigurationError(
                f"server 0 is at {places[0]}, server {server} at {places[server]}: all servers "
                "must use the same layers in every step"
            )

    def _after_forward(self, _model: nn.Module, _inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._reductions = 0
            self._end.watch(output)

    def _finish(self) -> None:
        reductions, self._reductions = self._reductions, 0
        skipped, self._skipped = self._skipped, False
        if not reductions:
            return
        if skipped:
            # Without gradients the optimiser changes nothing, not even its own state.
            self._clear()
        try:
            with self._servers.attendance.watch():
                self._call_roll(self._units, "the end of the backward pass")
        except Exception:
            self._clear()
            raise
        self._servers.note(skipped=skipped)

    def _clear(self) -> None:
        model = self._model()
        if model is not None:
            clear_gradients(model)

    def _compare_replicas(self, model: nn.Module) -> None:
        """Refuse replicas that begin with different weights, which would never become equal."""
        sums = [float(_local(p).detach().double().sum()) for p in model.parameters()]
        first, *others = self._servers.group.gather_objects(sums)
        for rank, other in enumerate(others, start=1):
            differing = [
                name
                for (name, _), a, b in zip(model.named_parameters(), first, other, strict=True)
                if a != b and not (isnan(a) and isnan(b))
            ]
            if differing:
                raise ConfigurationError(
                    f"{listed(differing)} begin with other values on replica {rank} than "
                    "on replica 0: seed all replicas alike, or broadcast the weights over "
                    'mesh["replicate"] first'
                )


class UnitExchange:
    """The exchange of one unit's gradients, which FSDP calls.

    Args:
        attachment: Reduces.
        parameters: Names and sharded parameters of the unit, in the order of FSDP.
        unit: Number of the unit.
        shards: Number of shards.
    """

    def __init__(
        self,
        attachment: FSDPAttachment,
        parameters: Sequence[tuple[str, nn.Parameter]],
        *,
        unit: int,
        shards: int,
    ) -> None:
        self._attachment = attachment
        self._unit = unit
        self._parameters = list(parameters)
        self._shards = shards

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return memory for FSDP's buffers."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: Any,
        async_op: bool = False,
    ) -> None:
        """Reduce this server's gradient, given as all shards, and return this server's shard.

        Args:
            output_tensor: The reduced shard [S], written.
            input_tensor: The gradient, float tensor [N S]; overwritten.
            group: The servers.
            op: AVG or SUM.
            async_op: False.

        Raises:
            ConfigurationError: If parameters of the unit have no gradient, or FSDP was told to
                divide gradients by a factor of its own.
            NonFiniteGradientError, ServerLostError: See :meth:`FSDPAttachment.reduce`.
        """
        scale = self._scale(op)
        shards_NS = input_tensor.view(self._shards, -1)
        pieces = pieces_of(self._parameters, self._shards)
        sizes = [piece.values for piece in pieces]
        gradient_P = torch.cat([p.of(shards_NS).reshape(-1)[: p.values] for p in pieces])
        if not self._reduce(gradient_P, pieces, sizes, shard=shards_NS.shape[1]):
            output_tensor.zero_()
            return
        for piece, values in zip(pieces, torch.split(gradient_P, sizes), strict=True):
            padded = values.new_zeros(self._shards * piece.length)
            padded[: piece.values] = values
            piece.of(shards_NS).copy_(padded.view(self._shards, -1))
        torch.mul(shards_NS[self._attachment.rank], scale, out=output_tensor)

    def average_replicas(self, shard_S: Tensor) -> None:
        """Average the gradient of a shard with those of its replicas, in place.

        Raises:
            ConfigurationError, NonFiniteGradientError, ServerLostError: See :meth:`__call__`.
        """
        pieces = pieces_of(self._parameters, self._shards)
        lengths = [piece.length for piece in pieces]
        if not self._reduce(shard_S, pieces, lengths, shard=len(shard_S)):
            shard_S.zero_()

    def _reduce(
        self, gradient_P: Tensor, pieces: Sequence[Piece], sizes: Sequence[int], *, shard: int
    ) -> bool:
        """Reduce, or tell all servers that shards of this size are those of other parameters."""
        names, problem = [piece.name for piece in pieces], None
        if sum(piece.length for piece in pieces) != shard:
            problem = (
                f"not exactly the trainable parameters of a unit got gradients ({listed(names)}): "
                "use all of them in the loss, or call set_reduce_scatter_unused_params(True) where "
                "torch has it; after a change of requires_grad, apply fully_shard and attach anew"
            )
        return self._attachment.reduce(gradient_P, names, sizes, unit=self._unit, problem=problem)

    def _scale(self, op: Any) -> float:
        """Return the factor from the mean to the result of FSDP's reduce-scatter."""
        if op == dist.ReduceOp.AVG:
            return 1.0
        if op == dist.ReduceOp.SUM:
            return float(self._shards)
        raise ConfigurationError(
            "set_gradient_divide_factor cannot be combined with optinc.attach: a reducer averages "
            "over its servers; scale the loss instead"
        )


def _checked_mesh(shards: DeviceMesh, replicas: DeviceMesh | None) -> DeviceMesh:
    """Return the mesh of the servers.

    Raises:
        ConfigurationError: If it has several dimensions, or a single server whose gradients FSDP
            would not exchange.
    """
    if replicas is None:
        if shards.size() == 1:
            raise ConfigurationError(
                "FSDP exchanges no gradients with a single server; use DistributedDataParallel, or "
                "start several processes"
            )
        return shards
    if replicas.ndim != 1 or replicas == shards:
        raise ConfigurationError(
            "optinc.attach(replicas=...) must be the dimension of the mesh over which shards are "
            f'replicated, as mesh["replicate"]; got {replicas}'
        )
    return replicas


def _local(parameter: nn.Parameter) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )
