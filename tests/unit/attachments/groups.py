"""A process group of this process only, and reducers for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only server of a gloo group."""
    store = dist.FileStore(str(folder / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def ideal(
    *, bits: int = 8, servers: int = 1, nonfinite: str = "raise", error_feedback: bool = False
) -> OptINCReducer:
    """A reducer with an ideal switch."""
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=bits, nonfinite=nonfinite)  # type: ignore[arg-type]
    switch = IdealSwitch(scenario)
    return OptINCReducer(quantizer=quantizer, switch=switch, error_feedback=error_feedback)
