"""Reduces gradients of 2 and of 3 real servers by every peer of OptINC.

    python peers.py RANK STORE FILE

Three processes, each with its RANK, the same STORE and a FILE of its own, to which it writes what
it received, by number of servers, reducer and step.
"""

from __future__ import annotations

import math
import sys

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
from optinc.signal.block_quantizer import BlockQuantizer

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


def main() -> None:
    rank, store, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    # One thread each: products over threads would be summed in another order.
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3)
    pair = dist.new_group([0, 1])
    received = {}
    for group in (ServerGroup(pair), ServerGroup.world()):
        if rank >= (2 if group.process_group is pair else 3):
            continue
        received.update(refused(group))
        for name, reducer in peers(group.size).items():
            for step in range(STEPS):
                gradient = gradients(group.size, step)[group.rank].clone()
                reduced = reducer.all_reduce(gradient, group)
                received[f"{group.size}.{name}.{step}"] = reduced
            error = reducer.accounting.quantization_error
            sent = reducer.accounting.bytes_sent
            received[f"{group.size}.{name}.totals"] = torch.tensor([error, sent])
            for key, state in reducer.server_state().items():
                received[f"{group.size}.{name}.{key}"] = state
    safetensors.torch.save_file(received, file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
