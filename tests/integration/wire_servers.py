"""Counts what real servers send, and compares what they receive with virtual ones.

    torchrun --nproc-per-node 4 -m tests.integration.wire_servers FOLDER

Rank 0 writes what it found to FOLDER/found.json.
"""

from __future__ import annotations

import gc
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import peak_extra_bytes
from benchmarks.sockets import counted
from optinc.attachments.attach import attach
from optinc.reducers.base import ERROR_EVERY
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.integration.servers import one_server

BITS = (2, 4, 8, 16)
SHORT_SCALES = {"scale_dtype": "bfloat16"}
CAPS = (1, 25, 1000)

SHAPES = [torch.Size(shape) for shape in [(3000, 1500), (1500,), (64, 64, 3, 3), (), (2000, 1000)]]
"""Layers and norms, some of which do not fill their last block."""

COPIES = 3
"""Sets of them: so many values that samples are at their sparsest distance."""


def reducer_of(bits: int, servers: int, **quantizer: Any) -> OptINCReducer:
    """Return a reducer with an exact switch."""
    rule = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    return OptINCReducer(quantizer=BlockQuantizer(bits=bits, **quantizer), switch=IdealSwitch(rule))


def sent_a_value(bits: int, group: ServerGroup, **quantizer: Any) -> dict[str, float]:
    """Return the bytes that this server sends a gradient value, counted and by the meter."""
    reducer = reducer_of(bits, group.size, **quantizer)
    reducer.lay_out(SHAPES * COPIES)
    values = sum(shape.numel() for shape in SHAPES) * COPIES
    gradient = torch.randn(values, generator=torch.Generator().manual_seed(group.rank))
    counts, metered = [], []
    # The first reduction, and every 50th, is measured.
    for _ in range(2):
        dist.barrier()
        before = group.meter.bytes
        with counted() as traffic:
            reducer.all_reduce(gradient, group)
            dist.barrier()
        counts.append(traffic.sent)
        metered.append(group.meter.bytes - before)
    measured, *plain = counts
    mean = (measured + (ERROR_EVERY - 1) * sum(plain) / len(plain)) / ERROR_EVERY
    return {"counted": mean / values, "plain": plain[0] / values, "metered": metered[1] / values}


class Layers(nn.Module):
    """Parameters of several sizes, in several buckets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(400, 700), nn.Linear(700, 900), nn.LayerNorm(900), nn.Linear(900, 5)]
        self.body = nn.Sequential(
            nn.Conv2d(3, 400, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers
        )

    def forward(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.body(batch).square().mean()
        return loss


def batch(server: int, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * step + server)
    return torch.randn(2, 3, 8, 8, generator=generator)


def gradients_by_hook(
    cap: int, group: ServerGroup, *, reducer: OptINCReducer | None = None, **options: Any
) -> list[Tensor]:
    """Return the gradients of two steps through DDP with buckets of ``cap`` MB."""
    module = module_of(options.pop("memory_format", torch.contiguous_format))
    model = DistributedDataParallel(module, bucket_cap_mb=cap, **options)
    attach(model, reducer_of(8, group.size) if reducer is None else reducer)
    found = []
    for step in range(2):
        model.zero_grad()
        model(batch(group.rank, step)).backward()
        found += [parameter.grad.contiguous().clone() for parameter in module.parameters()]
    return found


def module_of(memory_format: torch.memory_format) -> Layers:
    return Layers().to(memory_format=memory_format)  # type: ignore[call-overload, no-any-return]


def gradients_of_virtual_servers(
    servers: int,
    memory_format: torch.memory_format = torch.contiguous_format,
    reducer: OptINCReducer | None = None,
) -> list[Tensor]:
    """Return the same of servers that one process holds."""
    module = module_of(memory_format)
    reducer = reducer_of(8, servers) if reducer is None else reducer
    parameters = list(module.parameters())
    reducer.lay_out([parameter.shape for parameter in parameters])
    found = []
    for step in range(2):
        rows = []
        for server in range(servers):
            module.zero_grad()
            module(batch(server, step)).backward()
            rows.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
        reduced = torch.split(reducer(torch.stack(rows)), [p.numel() for p in parameters])
        found += [part.view(p.shape) for part, p in zip(reduced, parameters, strict=True)]
    return found


def equal_to_virtual(group: ServerGroup) -> dict[str, bool]:
    """Compare buckets of several sizes, and of channels_last weights, with virtual servers."""
    expected = gradients_of_virtual_servers(group.size)
    cases: dict[str, dict[str, Any]] = {f"{cap} MB": {"cap": cap} for cap in CAPS}
    cases["views"] = {"cap": 1, "gradient_as_bucket_view": True}
    equal = {
        name: same(gradients_by_hook(group=group, **case), expected) for name, case in cases.items()
    }
    # DDP's buffers hold such weights in their order of memory.
    last = torch.channels_last
    own = gradients_by_hook(1, group, memory_format=last)
    equal["channels_last"] = same(own, gradients_of_virtual_servers(group.size, last))
    both = [reducer_of(2, group.size, **SHORT_SCALES) for _ in range(2)]
    own = gradients_by_hook(1, group, reducer=both[0])
    equal["short scales"] = same(own, gradients_of_virtual_servers(group.size, reducer=both[1]))
    return equal


def same(own: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(own, other, strict=True))


def extra_memory(group: ServerGroup) -> float:
    """Return the bytes a parameter that the exchange adds to DDP's, at the peak of a step."""
    # Compiles and imports what every exchange needs once.
    gradients_by_hook(25, group)
    module = nn.Sequential(*(nn.Linear(1600, 1600, bias=False) for _ in range(16)))
    values = sum(parameter.numel() for parameter in module.parameters())
    rows = torch.randn(1, 1600)

    def step_of(model: nn.Module) -> None:
        model.zero_grad(set_to_none=False)
        model(rows).sum().backward()

    peaks = []
    for attached in (False, True):
        model = DistributedDataParallel(module, gradient_as_bucket_view=True)
        step_of(model)
        step_of(model)
        if attached:
            attach(model, reducer_of(8, group.size))
        gc.collect()
        # On a busy machine the runtime's own buffers come and go: by 0.7 bytes a parameter.
        steps = [peak_extra_bytes(partial(step_of, model)) for _ in range(3)]
        peaks.append(min((each for each in steps if each is not None), default=None))
    plain, own = (0.0 if peak is None else peak for peak in peaks)
    return (own - plain) / values


def main(folder: Path) -> None:
    """Write what was found."""
    dist.init_process_group("gloo")
    group = ServerGroup.world()
    found: dict[str, Any] = {"servers": group.size}
    found["bytes"] = {str(bits): sent_a_value(bits, group) for bits in BITS}
    found["bytes"]["2, short scales"] = sent_a_value(2, group, **SHORT_SCALES)
    found["equal"] = group.gather_objects(equal_to_virtual(group))
    found["memory"] = extra_memory(group)
    if group.rank == 0:
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    with one_server():
        main(Path(sys.argv[1]))
