"""``task=map_onn``: turn an ONN into the settings of its meshes."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from optinc.onn import mesh_settings
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics.area import PartCounts
from optinc.photonics.chip_settings import ChipSettings
from optinc.runs.summary import write_summary
from optinc.tasks.chosen_onn import chosen_onn
from optinc.tasks.instantiate import instantiate

logger = logging.getLogger(__name__)


def map_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Map the ONN of the optinc settings, or the one that ``onn=`` names, and check the result.

    ``optinc.chip.shifters`` and ``optinc.chip.bias`` say what the meshes and biases are built of.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the artifact and its mesh settings.

    Raises:
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged, or the meshes do
            not act as its weights.
    """
    onn = chosen_onn(cfg)
    onn.card.warn_of_wrong_inputs()
    chip: ChipSettings = instantiate(cfg.optinc.chip)
    mapped = mesh_settings.map_onn(onn, shifters=chip.shifters, bias=chip.bias)
    folder = Path(cfg.paths.output_dir) / "programme"
    mapped.save(folder)
    stored = mesh_settings.MeshProgramme.load(folder)
    weight_error = mesh_settings.check_rebuilt(stored, onn.network)
    summary = {
        "task": "map_onn",
        "shifters": mapped.shifters,
        "bias": mapped.bias,
        **_counts(mapped.parts),
        "layers": [_layer(layer) for layer in mapped.layers],
        "weight_error": weight_error,
        "programme": str(folder),
        "onn_sha256": onn.card.weights_sha256,
    }
    _log(mapped)
    logger.info("rebuilt weights differ by at most %.1e; %s", weight_error, folder)
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"onn": onn, "programme": mapped}


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
