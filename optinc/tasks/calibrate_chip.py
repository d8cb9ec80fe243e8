"""``task=calibrate_chip``: find settings with which drawn chips play an ONN; the yield."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from optinc.atomic_file import write_atomically
from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.calibration.base import Calibrated, Calibration
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.chip_settings import ChipSettings
from optinc.runs.summary import write_summary
from optinc.tasks.chosen_onn import chosen_onn
from optinc.tasks.csv_file import write_csv
from optinc.tasks.instantiate import instantiate

logger = logging.getLogger(__name__)

CSV_FILE = "chips.csv"

BATCHES = "chips"
"""Folder of what is finished, below the output folder."""


def calibrate_chip(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibrate drawn chips of an ONN, batch by batch, and count those that are right.

    A batch that the output folder holds already, of the same ONN, chip and calibration, is not
    calibrated again, except for ``resume=never``.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the settings and the rows of the report.

    Raises:
        ConfigurationError: If a setting is illegal.
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged.
    """
    onn = chosen_onn(cfg)
    settings: ChipSettings = instantiate(cfg.optinc.chip)
    _check(settings)
    calibration: Calibration = instantiate(cfg.calibration)
    folder = Path(cfg.paths.output_dir)
    programme = calibration.programme(onn, settings)
    plain = map_onn(onn, shifters=settings.shifters, bias=settings.bias)
    rows: list[dict[str, Any]] = []
    phases: list[list[dict[str, Tensor]]] = []
    signature = _signature(cfg, onn, settings)
    for draws in Draws(settings.seed, calibration.chips).chunks(calibration.batch):
        path = folder / BATCHES / f"{draws.first:05d}_{draws.chips}.safetensors"
        stored = None if cfg.resume == "never" else _read(path, signature, programme)
        if stored is None:
            stored = calibration.calibrate(onn, programme, settings, draws)
            _write(path, signature, stored)
        phases.append(stored.phases)
        own = programme.with_phases(stored.phases, seed=settings.seed)
        for j in range(draws.chips):
            row = _row(draws.first + j, (plain, own.of_chip(j)), onn, settings, calibration.repeats)
            row |= {name: float(value[j]) for name, value in stored.measures.items()}
            rows.append(row)
            logger.info(", ".join(f"{name} {value:.6g}" for name, value in row.items()))
        write_csv(folder / CSV_FILE, rows)
    found = programme.with_phases(_joined(phases), seed=settings.seed)
    found.save(folder / "programme")
    summary = _summary(calibration, onn, rows) | {"programme": str(folder / "programme")}
    write_summary(folder, summary)
    return summary, {"onn": onn, "programme": found, "rows": rows}


def _check(settings: ChipSettings) -> None:
    """Refuse chips that have no phases to be found, or whose detectors do not tell signs.

    Raises:
        ConfigurationError: Names the setting and the legal value.
    """
    if settings.hardware != "mesh":
        raise ConfigurationError(
            "task=calibrate_chip sets phases of meshes: it needs optinc.chip.hardware=mesh, got "
            f"{settings.hardware}"
        )
    if settings.detection != "homodyne":
        raise ConfigurationError(
            "task=calibrate_chip needs detectors that see the sign, "
            f"optinc.chip.detection=homodyne, got {settings.detection}"
        )


def _row(
    chip: int,
    programmes: tuple[MeshProgramme, MeshProgramme],
    onn: ONNArtifact,
    settings: ChipSettings,
    repeats: int,
) -> dict[str, Any]:
    """Return the shares of inputs that a chip receives right before and after calibration."""
    before, after = (
        float(
            chip_accuracy(
                ChipNetwork.draw(onn, settings, first=chip, programme=programme),
                repeats=repeats,
                seed=chip,
            )
        )
        for programme in programmes
    )
    return {"chip": chip, "right_before": before, "right": after}


def _summary(
    calibration: Calibration, onn: ONNArtifact, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    before = torch.tensor([row["right_before"] for row in rows], dtype=torch.float64)
    after = torch.tensor([row["right"] for row in rows], dtype=torch.float64)
    summary: dict[str, Any] = {
        "task": "calibrate_chip",
        "chips": len(rows),
        "goal": calibration.goal,
        "good_chips_before": int((before >= calibration.goal).sum()),
        "good_chips": int((after >= calibration.goal).sum()),
        "accuracy_before": float(before.mean()),
        "accuracy": float(after.mean()),
        "worst_accuracy": float(after.min()),
        "inputs": onn.card.scenario.combinations,
        "repeats": calibration.repeats,
        "onn_sha256": onn.card.weights_sha256,
    }
    logger.info(
        "%d of %d chips receive at least %g %% of all inputs right, before %d; mean %.4f %%, "
        "before %.4f %%",
        summary["good_chips"],
        len(rows),
        100 * calibration.goal,
        summary["good_chips_before"],
        100 * summary["accuracy"],
        100 * summary["accuracy_before"],
    )
    return summary


def _signature(cfg: DictConfig, onn: ONNArtifact, settings: ChipSettings) -> str:
    """Return what a batch depends on, as text: ONN, chip and calibration."""
    chip = asdict(settings)
    del chip["sources"]
    how = OmegaConf.to_container(cfg.calibration, resolve=True)
    assert isinstance(how, dict)
    # Which chips are in a batch, its name says.
    counts = ("chips", "batch", "repeats", "goal")
    what = [onn.card.weights_sha256, chip, {k: v for k, v in how.items() if k not in counts}]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _write(path: Path, signature: str, found: Calibrated) -> None:
    tensors = {f"measures.{name}": value for name, value in found.measures.items()}
    for i, layer in enumerate(found.phases):
        tensors |= {f"layers.{i}.{name}": value for name, value in layer.items()}
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, safetensors.torch.save(tensors, {"signature": signature}))


def _read(path: Path, signature: str, programme: MeshProgramme) -> Calibrated | None:
    """Return a batch that was finished before, None if there is none of the same settings."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("signature") != signature:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError:
        logger.warning("%s is damaged: its chips are calibrated again", path)
        return None
    measures = {
        name.removeprefix("measures."): value
        for name, value in tensors.items()
        if name.startswith("measures.")
    }
    layers = [
        {name: tensors[f"layers.{i}.{name}"] for name in layer.settings}
        for i, layer in enumerate(programme.layers)
    ]
    return Calibrated(phases=layers, measures=measures)


def _joined(batches: list[list[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
    """Put the phases of batches of chips together, layer by layer."""

    def layers() -> Iterator[dict[str, Tensor]]:
        for same in zip(*batches, strict=True):
            yield {name: torch.cat([each[name] for each in same]) for name in same[0]}

    return list(layers())
