"""Types and legal keys of the configuration, without slow imports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from optinc.commands import program

COLUMNS = 80
"""Width of a terminal."""


@dataclass
class MeshConfig:
    """``optinc/mesh``: hidden widths of the ONN, a list or ``table1``."""

    hidden: Any = MISSING


@dataclass
class QuantizationConfig:
    """``optinc/quantization``."""

    block_size: int = MISSING
    rounding: str = MISSING
    nonfinite: str = MISSING
    blocks: str = MISSING
    scale_dtype: str = MISSING
    error_feedback: bool = MISSING
    rotation: str = MISSING
    clip: float | None = MISSING
    seed: int = MISSING


@dataclass
class ApproximationConfig:
    """``optinc/approximation``: layers in Sigma U form."""

    layers: Any = MISSING


@dataclass
class PreprocessingConfig:
    """``optinc/preprocessing``: ONN inputs K, an integer or ``auto``."""

    inputs: Any = MISSING


@dataclass
class OptINCConfig:
    """``optinc``: the optical switch."""

    bits: int = MISSING
    servers: int = MISSING
    rounding: str = MISSING
    downlink: str = MISSING
    topology: Any = MISSING
    mesh: MeshConfig = field(default_factory=MeshConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    approximation: ApproximationConfig = field(default_factory=ApproximationConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    chip: Any = MISSING
    fidelity: Any = MISSING
    errors: Any = MISSING
    scenario: Any = MISSING
    design: Any = MISSING
    onn: Any = MISSING


@dataclass
class Config:
    """The whole configuration; groups that name a class are checked by that class."""

    task: Any = MISSING
    model: Any = MISSING
    data: Any = MISSING
    optinc: OptINCConfig = field(default_factory=OptINCConfig)
    onn_training: Any = MISSING
    construction: Any = MISSING
    onn_import: Any = MISSING
    cascade_tuning: Any = MISSING
    calibration: Any = MISSING
    search: Any = MISSING
    reducer: Any = MISSING
    strategy: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    callbacks: Any = MISSING
    paths: Any = MISSING
    choices: Any = MISSING
    seed: int = MISSING
    onn: str | None = None
    ckpt_path: str | None = None
    resume: str = MISSING
    resume_changed: bool = MISSING
    objective: str = MISSING
    runs: Any = None
    scale: str | None = None
    scales: Any = None


def register() -> None:
    """Register with Hydra the schema, and the name of this program for its help page."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("program", program, replace=True)
