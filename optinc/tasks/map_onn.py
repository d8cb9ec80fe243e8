"""``task=map_onn``: turn an ONN into the settings of its meshes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from optinc.onn import mesh_settings
from optinc.runs.summary import write_summary
from optinc.tasks.chosen_onn import chosen_onn

logger = logging.getLogger(__name__)


def map_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Map the ONN of the optinc settings, or the one that ``onn=`` names, and check the result.

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
    mapped = mesh_settings.map_onn(onn)
    folder = Path(cfg.paths.output_dir) / "programme"
    mapped.save(folder)
    stored = mesh_settings.MeshProgramme.load(folder)
    summary = {
        "task": "map_onn",
        "mzi_count": sum(layer.mzi_count for layer in mapped.layers),
        "optical_depth": mapped.optical_depth,
        "gains": [layer.gain for layer in mapped.layers],
        "weight_error": mesh_settings.check_rebuilt(stored, onn.network),
        "programme": str(folder),
        "onn_sha256": onn.card.weights_sha256,
    }
    logger.info(
        "%d MZIs, optical depth %d, gains %s; rebuilt weights differ by at most %.1e; %s",
        summary["mzi_count"],
        summary["optical_depth"],
        [round(layer.gain, 2) for layer in mapped.layers],
        summary["weight_error"],
        folder,
    )
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"onn": onn, "programme": mapped}
