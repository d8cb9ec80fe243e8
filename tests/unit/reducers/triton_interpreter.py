"""Check the CUDA kernels without a GPU: ``TRITON_INTERPRET=1 python -m`` this module.

Its bfloat16 is not rounded to nearest, so it is left to a GPU.
"""

from __future__ import annotations

import random
import sys

import torch

from optinc.reducers.kernels import cuda
from tests.unit.reducers.kernel_cases import (
    CPU,
    check_exchange,
    check_reduce,
    draw,
    with_padding,
)
from tests.unit.reducers.kernel_checks import check_injected, check_short_scales

VALUES, BLOCK_SIZES = (0, 1, 9, 40), (3, 8, 16)
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16)


def main(cases: int) -> None:
    """Compare the kernels with eager torch in a number of random cases."""
    for seed in range(cases):
        case = draw(seed, values=VALUES, block_sizes=BLOCK_SIZES, dtypes=DTYPES)
        assert cuda.supports(case.plan)
        check_reduce(cuda, case)
        check_exchange(cuda, case)
    # Several tiles for each block.
    large = draw(0, values=(1600,), block_sizes=(1500,), dtypes=DTYPES[:1])
    check_reduce(cuda, large)
    check_reduce(cuda, with_padding(random.Random(0), large))  # noqa: S311
    check_exchange(cuda, large)
    check_short_scales(cuda, CPU)
    check_injected(cuda, CPU, bits=8, flipped=False, values=200)
    print("equal")


if __name__ == "__main__":
    main(int(sys.argv[1]))
