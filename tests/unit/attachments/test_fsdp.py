"""``optinc.attach`` on sharded models, with servers that are threads.

Covers: optinc.attachments.fsdp, optinc.attachments.sharded_units
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.multi_threaded_pg import (
    _install_threaded_pg,
    _uninstall_threaded_pg,
)

import optinc
from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.ring import RingReducer
from tests.unit.attachments.groups import ideal


def run(servers: int, serve: Callable[[int], Any]) -> list[Any]:
    """Call a function in a thread for each server; return what it returned or raised."""
    results: dict[int, Any] = {}
    store = dist.HashStore()

    def take_part(rank: int) -> None:
        dist.init_process_group("threaded", rank=rank, world_size=servers, store=store)
        try:
            results[rank] = serve(rank)
        except BaseException as error:
            results[rank] = error

    torch._C._distributed_c10d._set_thread_isolation_mode(True)
    _install_threaded_pg()
    try:
        threads = [
            threading.Thread(target=take_part, args=(rank,), daemon=True) for rank in range(servers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        _uninstall_threaded_pg()
        torch._C._distributed_c10d._set_thread_isolation_mode(False)
    return [results.get(rank) for rank in range(servers)]


def build() -> nn.Module:
    """Sizes that do not divide by the number of servers, and a unit without rest."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(7, 13), nn.Tanh(), nn.Linear(13, 9), nn.Linear(9, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def data(server: int) -> Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(server))


def sharded(**settings: Any) -> nn.Module:
    model = build()
    fully_shard(model[0], **settings)
    fully_shard(model, **settings)
    return model


def whole(model: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.full_tensor() for p in model.parameters()]


def loss(model: nn.Module, server: int, scale: float = 1.0) -> Tensor:
    return model(data(server) * scale).square().mean()


def local_gradients(server: int, passes: int) -> list[Tensor]:
    module = build()
    for _ in range(passes):
        loss(module, server).backward()
    return [p.grad for p in module.parameters()]


def parameter_by_parameter(reducer: Any, *, passes: int = 1) -> list[Tensor]:
    """The reduced gradients of all servers of a reducer."""
    rows = zip(*(local_gradients(k, passes) for k in range(reducer.servers)), strict=True)
    return [reducer(torch.stack(row).flatten(1)).view_as(row[0]) for row in rows]


def near(found: list[Tensor | None], exact: list[Tensor], *, bits: int) -> None:
    """Check that every value is within one quantisation step of its parameter's largest value."""
    for a, b in zip(found, exact, strict=True):
        assert a is not None
        # The scale is the largest value of any server's gradient, at most N times that of the mean
        # in these data.
        assert (a - b).abs().max() <= 4 * b.abs().max() / (2 ** (bits - 1) - 1)


@pytest.mark.parametrize("servers", [2, 4])
@pytest.mark.parametrize("settings", [{}, {"reshard_after_forward": False}], ids=str)
def test_every_server_gets_its_shard_of_the_reduced_gradient(
    servers: int, settings: dict[str, Any]
) -> None:
    def serve(rank: int) -> Any:
        model = sharded(**settings)
        reducer = optinc.attach(model, ideal(bits=16, servers=servers))
        for _ in range(2):
            model.zero_grad()
            loss(model, rank).backward()
        return whole(model), reducer.accounting.reductions

    results = run(servers, serve)
    exact = parameter_by_parameter(RingReducer(servers=servers))
    for found, reductions in results:
        assert reductions == 4, "two units, two steps"
        near(found, exact, bits=16)
        assert not all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


def test_the_exact_mean_is_that_of_fsdp_itself() -> None:
    def serve(rank: int, *, attached: bool) -> Any:
        model = sharded()
        if attached:
            optinc.attach(model, RingReducer(servers=4))
        loss(model, rank).backward()
        return whole(model)

    own = run(4, lambda rank: serve(rank, attached=False))
    ours = run(4, lambda rank: serve(rank, attached=True))
    for a, b in zip(own[0], ours[0], strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_units_are_reduced_as_whole_parameters_in_the_order_of_fsdp() -> None:
    """So that blocks that end at the borders of parameters are those of virtual servers."""
    seen: list[Any] = []

    class Noting(RingReducer):
        def lay_out(self, shapes: Any) -> None:
            seen.append([shape.numel() for shape in shapes])
            super().lay_out(shapes)

    def serve(rank: int) -> None:
        model = sharded()
        optinc.attach(model, Noting(servers=2))
        loss(model, rank).backward()

    assert run(2, serve) == [None, None]
    assert sorted(seen) == [[91, 13]] * 2 + [[117, 9, 9, 1]] * 2


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 9), (torch.bfloat16, 6)])
def test_reductions_in_half_precision(dtype: torch.dtype, bits: int) -> None:
    """fp16 gradients are sums that FSDP divides itself, before and after."""

    def serve(rank: int) -> Any:
        model = sharded(mp_policy=MixedPrecisionPolicy(reduce_dtype=dtype))
        optinc.attach(model, ideal(bits=8, servers=4))
        loss(model, rank).backward()
        return whole(model)

    for found in run(4, serve):
        near(found, parameter_by_parameter(RingReducer(servers=4)), bits=min(bits, 8) - 1)


def test_accumulated_gradients_are_reduced_once() -> None:
    def serve(rank: int) -> Any:
        model = sharded()
        reducer = optinc.attach(model, ideal(bits=16, servers=2))
        model.set_requires_gradient_sync(False)
        loss(model, rank).backward()
        model.set_requires_gradient_sync(True)
        loss(model, rank).backward()
        return whole(model), reducer.accounting.reductions

    for found, reductions in run(2, serve):
        assert reductions == 2
        near(found, parameter_by_parameter(RingReducer(servers=2), passes=2), bits=16)


def test_replicas_of_shards_are_averaged_by_the_reducer() -> None:
    def serve(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        model = sharded(mesh=mesh["shard"])
        reducer = optinc.attach(model, ideal(bits=16, servers=2), replicas=mesh["replicate"])
        loss(model, rank).backward()
        return whole(model), reducer.accounting.reductions

    results = run(4, serve)
    exact = parameter_by_parameter(RingReducer(servers=4))
    for found, reductions in results:
        assert reductions == 2
        near(found, exact, bits=16)
        assert all(torch.equal(a, b) for a, b in zip(found, results[0][0], strict=True))


@pytest.mark.parametrize("policy", ["raise", "skip_step"])
def test_nan_on_one_server_concerns_all(policy: str) -> None:
    def serve(rank: int) -> Any:
        model = sharded()
        optinc.attach(model, ideal(servers=2, nonfinite=policy))
        error = None
        try:
            loss(model, rank, float("nan") if rank else 1.0).backward()
        except NonFiniteGradientError as caught:
            error = str(caught)
        return error, whole(model)

    for error, found in run(2, serve):
        assert found == [None] * 6
        assert (error is None) == (policy == "skip_step")
        if error is not None:
            assert "server 1 is nan" in error
            assert "parameter '2.weight'" in error


def test_unused_parameters_of_a_unit_are_named() -> None:
    def serve(rank: int) -> None:
        model = sharded()
        optinc.attach(model, ideal(servers=2))
        model.forward = lambda x: model[2](nn.functional.pad(x, (0, 6)))  # type: ignore[method-assign]
        loss(model, rank).backward()

    for error in run(2, serve):
        assert isinstance(error, ConfigurationError)
        assert str(error).startswith("server 0: not exactly the trainable parameters of a unit")
        assert "parameters '2.weight', '2.bias', '3.weight', '3.bias'" in str(error)


@pytest.mark.parametrize("ends_early", [False, True])
def test_servers_that_leave_out_layers_are_not_mixed_up(ends_early: bool) -> None:
    """Layers of equal size, of which one server leaves one out: FSDP would average others."""

    def serve(rank: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        model = nn.Sequential(*(nn.Linear(7, 7) for _ in range(3)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for layer in model:
            fully_shard(layer, reshard_after_forward=False)
        fully_shard(model)
        optinc.attach(model, ideal(servers=2))
        left_out = 2 if ends_early else 1

        def forward(x_BF: Tensor) -> Tensor:
            outputs = [layer(x_BF) for layer in model]
            if rank:
                outputs[left_out] = outputs[left_out].detach()
            return sum(outputs)  # type: ignore[return-value]

        model.forward = forward  # type: ignore[method-assign]
        loss(model, rank).backward()

    for error in run(2, serve):
        assert isinstance(error, ConfigurationError), error
        assert "all servers must use the same layers in every step" in str(error)
        if ends_early:
            assert "server 1 at the end of the backward pass" in str(error)
        else:
            assert "server 1 at the unit of parameters" in str(error)


def refused(
    attach: Callable[[nn.Module], Any], build_model: Callable[[], nn.Module] = sharded
) -> str:
    def serve(rank: int) -> Any:
        attach(build_model())

    first, second = run(2, serve)
    assert isinstance(first, ConfigurationError), first
    assert str(first) == str(second)
    return str(first)


def native_hsdp() -> nn.Module:
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    return sharded(mesh=mesh)


def ignoring() -> nn.Module:
    model = build()
    fully_shard(model, ignored_params={model[0].bias})
    return model


def other_weights() -> tuple[nn.Module, Any]:
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    model = build()
    with torch.no_grad():
        model[2].bias += dist.get_rank()
    fully_shard(model, mesh=mesh["shard"])
    return model, mesh["replicate"]


def test_what_cannot_be_reduced_is_refused_by_name() -> None:
    message = refused(optinc.attach, native_hsdp)
    assert 'replicas=mesh["replicate"]' in message
    assert "'0.bias' is trainable, but fully_shard does not reduce it" in refused(
        optinc.attach, ignoring
    )
    powersgd = PowerSGDReducer(servers=1, rank=1, start_iteration=2, min_compression_rate=2.0)
    assert "PowerSGDReducer feeds errors of the whole gradient back" in refused(
        lambda model: optinc.attach(model, powersgd)
    )
    message = refused(
        lambda pair: optinc.attach(pair[0], ideal(servers=2), replicas=pair[1]), other_weights
    )  # type: ignore[index]
    assert "parameter '2.bias' begin with other values on replica 1" in message

    def twice(model: nn.Module) -> None:
        optinc.attach(model, ideal(servers=2))
        optinc.attach(model, ideal(servers=2))

    assert "a reducer is attached to this sharded model" in refused(twice)


def test_a_factor_of_the_user_s_own_is_refused() -> None:
    def serve(rank: int) -> None:
        model = sharded()
        optinc.attach(model, ideal(servers=2))
        model.set_gradient_divide_factor(3.0)
        loss(model, rank).backward()

    for error in run(2, serve):
        assert "set_gradient_divide_factor cannot be combined" in str(error)


def test_a_single_server_exchanges_nothing() -> None:
    (error,) = run(1, lambda rank: optinc.attach(sharded(), ideal()))
    assert "no gradients with a single server" in str(error)
