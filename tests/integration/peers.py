"""Reduces gradients of 2 and of 3 real servers by every peer of OptINC.

    torchrun --nproc-per-node 3 -m tests.integration.peers FOLDER

Writes what each received, by number of servers, reducer and step, to FOLDER/RANK.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from optinc.errors import NonFiniteGradientError, SkipStep
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.peers.thc import THCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from tests.integration.servers import one_server

STEPS = 6
SHAPES = [torch.Size(shape) for shape in [(64, 48), (64,), (), (16, 8, 3, 3), (10, 64), (9,)]]
VALUES = sum(shape.numel() for shape in SHAPES)


def peers(servers: int) -> dict[str, Reducer]:
    """Return all reducers, new ones."""
    reducers: dict[str, Reducer] = {
        "fp16": HalfPrecisionReducer(servers=servers, format="fp16"),
        "bf16": HalfPrecisionReducer(servers=servers, format="bf16"),
        "int8_blocks": Int8BlocksReducer(servers=servers, quantizer=BlockQuantizer(bits=8)),
        "int4_propagate": Int8BlocksReducer(
            servers=servers, quantizer=BlockQuantizer(bits=4, nonfinite="propagate")
        ),
        "qsgd": QSGDReducer(servers=servers),
        "qsgd_fine": QSGDReducer(servers=servers, levels=1000, bucket_size=100, seed=3),
        "thc": THCReducer(servers=servers, block_size=256),
        "thc_2": THCReducer(servers=servers, bits=2, block_size=64, seed=2, blocks="flat"),
        "powersgd": PowerSGDReducer(servers=servers, rank=4, start_iteration=2),
        "powersgd_rank1": PowerSGDReducer(servers=servers, rank=1, start_iteration=2),
    }
    for reducer in reducers.values():
        reducer.lay_out(SHAPES)
    return reducers


def gradients(servers: int, step: int) -> Tensor:
    """Return what the servers send in a step: a part in common, and noise."""
    generator = torch.Generator().manual_seed(100 * servers + step)
    common = torch.randn(VALUES, generator=generator)
    return common + 0.5 * torch.randn(servers, VALUES, generator=generator)


def refused(group: ServerGroup) -> dict[str, Tensor]:
    """Return what servers learn of the last server's NaN at 777: its place, and a skipped step."""
    gradient = gradients(group.size, 0)[group.rank]
    if group.rank == group.size - 1:
        gradient[777] = math.nan
    learnt = {}
    for policy in ("raise", "skip_step"):
        quantizer = BlockQuantizer(bits=8, nonfinite=policy)
        reducer = Int8BlocksReducer(servers=group.size, quantizer=quantizer)
        try:
            reducer.all_reduce(gradient, group)
        except NonFiniteGradientError as error:
            learnt[policy] = torch.tensor([error.server, error.position])
        except SkipStep:
            learnt[policy] = torch.tensor([reducer.accounting.nonfinite_blocks])
    return {f"{group.size}.refused.{policy}": value for policy, value in learnt.items()}


def received(group: ServerGroup) -> dict[str, Tensor]:
    """Return what a server of this group received from every reducer."""
    found = refused(group)
    for name, reducer in peers(group.size).items():
        prefix = f"{group.size}.{name}"
        for step in range(STEPS):
            gradient = gradients(group.size, step)[group.rank].clone()
            found[f"{prefix}.{step}"] = reducer.all_reduce(gradient, group)
        totals = [reducer.accounting.quantization_error, reducer.accounting.bytes_sent]
        found[f"{prefix}.totals"] = torch.tensor(totals)
        for key, state in reducer.server_state().items():
            found[f"{prefix}.{key}"] = state
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    with one_server():
        dist.init_process_group("gloo")
        rank = dist.get_rank()
        pair = dist.new_group([0, 1])
        found = received(ServerGroup(pair)) if rank < 2 else {}
        found.update(received(ServerGroup.world()))
        safetensors.torch.save_file(found, folder / str(rank))
        dist.barrier()


if __name__ == "__main__":
    main()
