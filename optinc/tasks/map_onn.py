"""``task=map_onn``: turn an ONN into the settings of its meshes or crossbars."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from optinc.onn import mesh_settings
from optinc.onn.artifact import ONNArtifact
from optinc.onn.crossbar_settings import CrossbarProgramme, map_crossbar, rebuild_crossbar
from optinc.onn.layer_factors import LayerDescription
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics.area import CrossbarCounts, PartCounts
from optinc.photonics.chip_settings import ChipSettings
from optinc.runs.summary import write_summary
from optinc.tasks.chosen_onn import chosen_onn
from optinc.tasks.instantiate import instantiate

logger = logging.getLogger(__name__)


def map_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Map the ONN of the optinc settings, or the one that ``onn=`` names, and check the result.

    ``optinc.chip.hardware`` says whether layers are meshes or crossbars. Of meshes,
    ``optinc.chip.shifters`` and ``optinc.chip.bias`` say what they and the biases are built of; of
    crossbars, ``optinc.chip.detection`` whether amplitudes or intensities carry the numbers.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the artifact and its settings.

    Raises:
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged, or its hardware
            does not act as its weights.
    """
    onn = chosen_onn(cfg)
    onn.card.warn_of_wrong_inputs()
    chip: ChipSettings = instantiate(cfg.optinc.chip)
    folder = Path(cfg.paths.output_dir) / "programme"
    mapped: MeshProgramme | CrossbarProgramme
    if chip.hardware == "crossbar":
        mapped, summary = _to_crossbars(onn, chip, folder)
    else:
        mapped, summary = _to_meshes(onn, chip, folder)
    summary = {"task": "map_onn", "hardware": chip.hardware} | summary
    summary |= {"programme": str(folder), "onn_sha256": onn.card.weights_sha256}
    logger.info("rebuilt weights differ by at most %.1e; %s", summary["weight_error"], folder)
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"onn": onn, "programme": mapped}


def _to_meshes(
    onn: ONNArtifact, chip: ChipSettings, folder: Path
) -> tuple[MeshProgramme, dict[str, Any]]:
    """Write the settings of meshes, check them, and return them with their summary."""
    mapped = mesh_settings.map_onn(onn, shifters=chip.shifters, bias=chip.bias)
    mapped.save(folder)
    stored = MeshProgramme.load(folder)
    _log(mapped)
    return mapped, {
        "shifters": mapped.shifters,
        "bias": mapped.bias,
        **_counts(mapped.parts),
        "layers": [_layer(layer) for layer in mapped.layers],
        "weight_error": mesh_settings.check_rebuilt(stored, onn.network),
    }


def _to_crossbars(
    onn: ONNArtifact, chip: ChipSettings, folder: Path
) -> tuple[CrossbarProgramme, dict[str, Any]]:
    """Write the settings of crossbars, check them, and return them with their summary."""
    mapped = map_crossbar(onn, detection=chip.detection)
    mapped.save(folder)
    rebuilt = rebuild_crossbar(CrossbarProgramme.load(folder))
    _log_crossbars(mapped)
    return mapped, {
        "detection": mapped.detection,
        **_crossbar_counts(mapped.parts, chip),
        "layers": [
            {
                "outputs": layer.outputs,
                "inputs": layer.inputs,
                "reference": float(layer.beam_m.max()),
            }
            | _crossbar_counts(layer.parts, chip)
            for layer in mapped.layers
        ],
        "weight_error": mesh_settings.check_same(rebuilt, onn.network, built_of="crossbars"),
    }


def _crossbar_counts(parts: CrossbarCounts, chip: ChipSettings) -> dict[str, Any]:
    """Return the counts of the summary; ``devices`` are the attenuators, each an MZI."""
    intensities = chip.detection == "direct"
    return {
        "devices": parts.devices,
        **asdict(parts),
        "photodiodes": parts.photodiodes(intensities=intensities),
        "phase_shifters": parts.phase_shifters(intensities=intensities, shifters=chip.shifters),
    }


def _log_crossbars(programme: CrossbarProgramme) -> None:
    """Log what every crossbar is built of, and the whole ONN."""
    joint = "wired photodiodes" if programme.detection == "direct" else "combiners"
    for index, layer in enumerate(programme.layers, start=1):
        logger.info(
            "layer %d: %d x %d, %s; amplifiers of up to %.1f times the light of an attenuator",
            index,
            layer.outputs,
            layer.inputs,
            _crossbar_text(layer.parts, joint),
            float(layer.gain_m.max()),
        )
    logger.info("%s crossbars: %s", programme.detection, _crossbar_text(programme.parts, joint))


def _crossbar_text(parts: CrossbarCounts, joint: str) -> str:
    return (
        f"{parts.devices} attenuators ({parts.weights} weights, {parts.biases} biases), "
        f"{parts.splitters} splitters, {parts.joints} {joint}"
    )


def _counts(parts: PartCounts) -> dict[str, Any]:
    """Return the counts of the summary; ``mzi_count`` is the paper's."""
    return {
        "mzi_count": parts.mzis,
        "bare_mzi_count": parts.bare_mzis,
        "built_mzi_count": parts.built_mzis,
        "splitters": parts.splitters,
        "combiners": parts.combiners,
        "splitting_db": parts.splitting_db,
        "optical_depth": parts.optical_depth,
        "divider_depth": parts.divider_depth,
        "amplifiers": parts.amplifiers,
    }


def _layer(layer: LayerDescription) -> dict[str, Any]:
    """Return what the summary says of a layer."""
    return asdict(layer) | {"gain_db": layer.gain_db} | _counts(layer.parts)


def _log(programme: mesh_settings.MeshProgramme) -> None:
    """Log what every layer is built of, and the whole ONN."""
    for index, layer in enumerate(programme.layers, start=1):
        logger.info(
            "layer %d: %d x %d, %s, bias by %s, %s; amplifiers of %.1f dB behind the detectors",
            index,
            layer.outputs,
            layer.inputs,
            layer.form,
            layer.bias,
            _text(layer.parts),
            layer.gain_db,
        )
    parts = programme.parts
    logger.info(
        "%s interferometers: %s; the paper's count is %d MZIs, %d if diagonal layers have no mesh",
        programme.shifters,
        _text(parts),
        parts.mzis,
        parts.bare_mzis,
    )


def _text(parts: PartCounts) -> str:
    return (
        f"{parts.built_mzis} MZIs, {parts.splitters} splitters, {parts.combiners} combiners "
        f"({parts.splitting_db:.1f} dB), depth {parts.optical_depth}"
    )
