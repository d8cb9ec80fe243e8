"""DistributedDataParallel of torch itself with our hook, beside the same without it.

The ideas are those of torch's own tests of communication hooks (``test/distributed``). Every case
runs on two servers and returns plain values; see :mod:`tests.integration.ddp_behaviours`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.distributed.distributed_c10d import _get_default_store
from torch.nn.parallel import DistributedDataParallel

from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.strategies.bucket_exchange import BucketExchange, exchange_groups
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lost_servers import Attendance

SEVERAL_BUCKETS = {"bucket_cap_mb": 1e-5}


class Net(nn.Module):
    """Three layers; the last one can be left out, and its output fed back to the first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(3, 5), nn.Linear(5, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor, *, skip: bool = False) -> Tensor:
        x = self.second(self.first(x).relu())
        return x if skip else self.third(x)


def group() -> ServerGroup:
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    return ServerGroup.world()


def hooked(module: nn.Module, **ddp: Any) -> tuple[DistributedDataParallel, BucketExchange]:
    servers = group()
    wrapped = DistributedDataParallel(module, **ddp)
    exchange = BucketExchange(
        RingReducer(servers=servers.size),
        FlatParameters(module),
        **exchange_groups(servers, torch.device("cpu")),
        attendance=Attendance(_get_default_store(), rank=servers.rank, size=servers.size),
        device=torch.device("cpu"),
    )
    wrapped.register_comm_hook(None, exchange.hook)
    return wrapped, exchange


def data(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * step + group().rank)
    return torch.randn(4, 3, generator=generator)


def train(
    model: DistributedDataParallel,
    exchange: BucketExchange | None,
    *,
    steps: int = 4,
    accumulate: int = 1,
    skips: Callable[[int], bool] = lambda step: False,
) -> list[list[Tensor]]:
    """Train by SGD; return the gradients of all steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients = []
    for step in range(steps):
        synchronise = (step + 1) % accumulate == 0
        with nullcontext() if synchronise else model.no_sync():
            loss = model(data(step), skip=skips(step)).square().mean()
            if exchange is not None and synchronise:
                exchange.begin()
            loss.backward()
            if exchange is not None and synchronise:
                exchange.finish(loss)
        if synchronise:
            parameters = list(model.parameters())
            gradients.append(
                [torch.zeros(0) if p.grad is None else p.grad.clone() for p in parameters]
            )
            optimizer.step()
            optimizer.zero_grad()
    return gradients


def parity(*, ddp: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """Train with the hook and without; the ring's mean of two servers is that of DDP."""
    ddp = SEVERAL_BUCKETS | (ddp or {})
    model, exchange = hooked(Net(), **ddp)
    plain = DistributedDataParallel(Net(), **ddp)
    ours, theirs = train(model, exchange, **how), train(plain, None, **how)
    return {
        "equal": all(
            torch.equal(a, b)
            for first, second in zip(ours, theirs, strict=True)
            for a, b in zip(first, second, strict=True)
        ),
        "steps": len(ours),
        "not_zero": all(any(g.abs().sum() > 0 for g in step) for step in ours),
        "calls": exchange.calls,
        "reductions": exchange.reducer.accounting.reductions,
    }


def on_rank_1(step: int) -> bool:
    return group().rank == 1 and step == 2


def joined() -> dict[str, Any]:
    """Server 1 has fewer batches; it sends zeros until server 0 has finished."""
    results = []
    for with_hook in (True, False):
        module = Net()
        if with_hook:
            model, _ = hooked(module, **SEVERAL_BUCKETS)
        else:
            model = DistributedDataParallel(module, **SEVERAL_BUCKETS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Join([model]):
            for step in range(5 if group().rank == 0 else 3):
                optimizer.zero_grad()
                model(data(step)).square().mean().backward()
                optimizer.step()
        results.append([p.detach().clone() for p in module.parameters()])
    return {"equal": all(map(torch.equal, *results))}


def twice() -> dict[str, Any]:
    model, exchange = hooked(Net())
    try:
        model.register_comm_hook(None, exchange.hook)
    except RuntimeError as error:
        return {"refused": str(error).splitlines()[0]}
    return {"refused": None}


def sparse() -> dict[str, Any]:
    model, exchange = hooked(nn.Embedding(5, 3, sparse=True))
    exchange.begin()
    loss = model(torch.tensor([1])).sum()
    loss.backward()
    exchange.finish(loss)
    return {}


def stored() -> dict[str, Any]:
    """A strategy before the training, and the state of a reducer after one, through a file."""
    buffer = io.BytesIO()
    torch.save(OptINCDDPStrategy(OptINCReducer.from_zoo(bits=8, servers=2)), buffer)
    buffer.seek(0)
    # As an object, which is what is tested; written by the line above.
    strategy = torch.load(buffer, weights_only=False)
    return {"fidelity": strategy.reducer.describe()["fidelity"]}


HOOK_CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "parity": parity,
    "parity_one_bucket": lambda: parity(ddp={"bucket_cap_mb": 25}),
    "parity_views": lambda: parity(ddp={"gradient_as_bucket_view": True}),
    "parity_static": lambda: parity(ddp={"static_graph": True}),
    "parity_static_unused": lambda: parity(ddp={"static_graph": True}, skips=lambda step: True),
    "parity_no_sync": lambda: parity(accumulate=2),
    "parity_no_sync_views": lambda: parity(ddp={"gradient_as_bucket_view": True}, accumulate=2),
    "parity_unused": lambda: parity(ddp={"find_unused_parameters": True}, skips=on_rank_1),
    "parity_unused_everywhere": lambda: parity(
        ddp={"find_unused_parameters": True}, skips=lambda step: step == 2
    ),
    "unused": lambda: parity(skips=on_rank_1),
    "joined": joined,
    "twice": twice,
    "stored": stored,
    "sparse": sparse,
}
