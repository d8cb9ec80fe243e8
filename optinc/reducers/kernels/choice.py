"""Choice of the kernels for a device and plan."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from optinc.reducers.kernels.plan import Backend, ReductionPlan


def fused_kernels(device: str, plan: ReductionPlan) -> Backend | None:
    """Return the fused kernels for a device and plan, None where there are none."""
    # Compilers are not imported before they are needed: they take a while.
    kernels = None if plan.path is None else _kernels(device)
    return kernels if kernels is not None and kernels.supports(plan) else None


@lru_cache
def _kernels(device: str) -> Backend | None:
    """Import the kernels for a device, None where there are none or their compiler is missing."""
    if device == "cpu" and find_spec("numba") is not None:
        from optinc.reducers.kernels import cpu  # noqa: PLC0415  (imports numba)

        return cpu
    # torch brings Triton on Linux only.
    if device == "cuda" and find_spec("triton") is not None:
        from optinc.reducers.kernels import cuda  # noqa: PLC0415  (imports Triton)

        return cuda
    return None
