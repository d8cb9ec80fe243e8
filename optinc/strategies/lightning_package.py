"""Lightning under the name that the user imports: ``pytorch_lightning`` or ``lightning.pytorch``.

Both packages hold the same code twice, so that a trainer of one refuses callbacks and strategies
that are built on the other. The first import of this module decides for one of them.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

SEPARATE, UNIFIED = "pytorch_lightning", "lightning.pytorch"


def choose_package() -> str:
    """Return the package that has been imported or, where neither or both are, the separate one."""
    if SEPARATE not in sys.modules and (UNIFIED in sys.modules or find_spec(SEPARATE) is None):
        return UNIFIED
    return SEPARATE


PACKAGE = choose_package()
"""Name of the package on which strategies and callbacks are built."""

if TYPE_CHECKING or PACKAGE == SEPARATE:
    import pytorch_lightning as pl
    from lightning_fabric.plugins import CheckpointIO
    from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
    from lightning_fabric.utilities.seed import reset_seed
    from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
    from pytorch_lightning.callbacks import (
        Callback,
        ModelCheckpoint,
        RichProgressBar,
        TQDMProgressBar,
    )
    from pytorch_lightning.loggers import CSVLogger
    from pytorch_lightning.plugins.precision import MixedPrecision
    from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, StrategyRegistry
    from pytorch_lightning.trainer.states import RunningStage, TrainerFn
    from pytorch_lightning.utilities.exceptions import SIGTERMException
else:
    import lightning.pytorch as pl
    from lightning.fabric.plugins import CheckpointIO
    from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
    from lightning.fabric.utilities.seed import reset_seed
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
    from lightning.pytorch.callbacks import (
        Callback,
        ModelCheckpoint,
        RichProgressBar,
        TQDMProgressBar,
    )
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.plugins.precision import MixedPrecision
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, StrategyRegistry
    from lightning.pytorch.trainer.states import RunningStage, TrainerFn
    from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = [
    "PACKAGE",
    "CSVLogger",
    "CUDAAccelerator",
    "Callback",
    "CheckpointIO",
    "DDPStrategy",
    "MPSAccelerator",
    "MixedPrecision",
    "ModelCheckpoint",
    "RichProgressBar",
    "RunningStage",
    "SIGTERMException",
    "SingleDeviceStrategy",
    "StrategyRegistry",
    "TQDMProgressBar",
    "TorchCheckpointIO",
    "TrainerFn",
    "other_registry",
    "pl",
    "reset_seed",
]


def other_registry() -> Any:
    """Return the registry of strategies of the package that was not chosen, if it is imported."""
    other = sys.modules.get(f"{UNIFIED if PACKAGE == SEPARATE else SEPARATE}.strategies")
    return getattr(other, "StrategyRegistry", None)
