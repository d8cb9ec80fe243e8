"""Ways to average the gradients of a ``DistributedDataParallel`` model, as a user sets them up."""

# Without `from __future__ import annotations`: DDP checks the annotations of hooks itself.

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
    fp16_compress_hook,
)
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

import optinc
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch


@dataclass(frozen=True)
class Arm:
    """A way to average gradients.

    Attributes:
        setup: Registers hook or reducer on a wrapped model of so many servers.
        views: ``gradient_as_bucket_view``: gradients are views of what is sent, which saves DDP a
            copy in either direction.
    """

    setup: Callable[[DistributedDataParallel, int], None]
    views: bool = True

    def wrap(self, module: nn.Module, servers: int, **options: Any) -> DistributedDataParallel:
        """Return a module as a user would train it.

        Args:
            module: The module, equal on all servers.
            servers: Number of servers.
            **options: Further arguments of ``DistributedDataParallel``.
        """
        model = DistributedDataParallel(module, gradient_as_bucket_view=self.views, **options)
        self.setup(model, servers)
        return model


def _nothing(_model: DistributedDataParallel, _servers: int) -> None:
    """Leave DDP's own all-reduce of float32."""


def _half(hook: Callable[..., Any], model: DistributedDataParallel, _servers: int) -> None:
    model.register_comm_hook(None, hook)


def _powersgd(model: DistributedDataParallel, _servers: int) -> None:
    # It logs its settings and buffers at every step.
    logging.getLogger(powerSGD_hook.__module__).setLevel(logging.WARNING)
    state = PowerSGDState(process_group=None, matrix_approximation_rank=4, start_powerSGD_iter=2)
    model.register_comm_hook(state, _in_order)


def _in_order(
    state: PowerSGDState,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> Future[Tensor]:
    """Wait for each bucket before DDP gives the next one to PowerSGD.

    Its second all-reduce begins on a thread of gloo's when the first has ended. With several
    buckets under way the servers begin theirs in different orders, and wait for ever.
    """
    future = powerSGD_hook(state, bucket)
    future.wait()
    return future


def _int8_blocks(model: DistributedDataParallel, servers: int) -> None:
    quantizer = BlockQuantizer(bits=8)
    optinc.attach(model, Int8BlocksReducer(servers=servers, quantizer=quantizer))


def _optinc(bits: int, model: DistributedDataParallel, servers: int) -> None:
    optinc.attach(model, optinc_reducer(bits=bits, servers=servers))


def optinc_reducer(*, bits: int, servers: int) -> OptINCReducer:
    """Return OptINC through the shipped ONN at 8 bits, through an ideal switch at other bits.

    Ideal, because ONNs for 2 bits, and for 16 bits with 2 or 8 servers, are not shipped. An ONN
    that receives every input right costs the same: its table is not looked up either. At 2 bits
    block scales are bfloat16, as float32 ones are 6.25 % of the codes.
    """
    if bits == 8:
        return OptINCReducer.from_zoo(bits=bits, servers=servers)
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=bits, scale_dtype="bfloat16" if bits == 2 else "float32")
    return OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario))


TORCH = "torch DDP"
"""The baseline, as torch has it by default."""

TORCH_VIEWS = "torch DDP, views"
"""The baseline without DDP's copies."""

OPTINC_8 = "optinc 8 bits"
"""OptINC as it is by default."""

ARMS = {
    TORCH: Arm(_nothing, views=False),
    TORCH_VIEWS: Arm(_nothing),
    "torch fp16 hook": Arm(partial(_half, fp16_compress_hook)),
    "torch bf16 hook": Arm(partial(_half, bf16_compress_hook)),
    "torch PowerSGD, rank 4": Arm(_powersgd),
    "int8 blocks": Arm(_int8_blocks),
    **{f"optinc {bits} bits": Arm(partial(_optinc, bits)) for bits in (2, 4, 8, 16)},
}
"""All of them, by name."""
