"""Lightning under the name that the user imports: ``pytorch_lightning`` or ``lightning.pytorch``.

Both packages hold the same code twice, so that a trainer of one refuses callbacks and strategies
that are built on the other. The first import of this module decides for one of them.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from optinc.errors import ConfigurationError

SEPARATE, UNIFIED = "pytorch_lightning", "lightning.pytorch"


def choose_package() -> str:
    """Return the package that has been imported or, where neither or both are, the separate one."""
    if SEPARATE not in sys.modules and (UNIFIED in sys.modules or find_spec(SEPARATE) is None):
        return UNIFIED
    return SEPARATE


PACKAGE = choose_package()
"""Name of the package on which strategies and callbacks are built."""

NAMES = {"optinc_ddp": False, "optinc_ddp_find_unused_parameters_true": True}
"""Names of the strategy of real servers, and whether unused parameters are found."""

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
    "pl",
    "register",
    "reset_seed",
]


def register(strategy: type[DDPStrategy]) -> None:
    """Let the trainer know a strategy by :data:`NAMES`; the other package's trainer refuses it."""
    # Nothing is imported that the user does not use.
    other = sys.modules.get(f"{UNIFIED if PACKAGE == SEPARATE else SEPARATE}.strategies")
    for name, unused in NAMES.items():
        StrategyRegistry.register(
            name,
            strategy,
            description="DDP whose gradients an optical switch averages",
            override=True,
            find_unused_parameters=unused,
        )
        if other is not None:
            other.StrategyRegistry.register(
                name, _refuse, description="Refused, see the error", override=True
            )


def _refuse(**_settings: Any) -> NoReturn:
    raise ConfigurationError(
        "two packages of Lightning are imported, pytorch_lightning and lightning.pytorch, and "
        f"optinc is built on {PACKAGE}: take its Trainer, or import only the other one, before "
        "optinc"
    )
