"""``task=evaluate_onn``: recompute a trained ONN's accuracy on all of its possible inputs."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from optinc.onn.evaluation import evaluate_exhaustively
from optinc.runs.summary import write_summary
from optinc.tasks.announcements import shipped_name
from optinc.tasks.chosen_onn import chosen_onn

logger = logging.getLogger(__name__)


def evaluate_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate the ONN of the optinc settings, or the one that ``onn=`` names.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the artifact and its evaluation.

    Raises:
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged.
    """
    onn = chosen_onn(cfg)
    evaluation = evaluate_exhaustively(
        onn.network, onn.card.scenario, progress=cfg.trainer.enable_progress_bar
    )
    if evaluation.error_values:
        logger.info("received minus ideal code -> inputs: %s", evaluation.error_values)
    summary = {
        "task": "evaluate_onn",
        "name": shipped_name(asdict(onn.card)) or cfg.onn,
        "structure": list(onn.card.structure),
        "approximated_layers": list(onn.card.approximated_layers),
        "mzi_count": onn.card.mzi_count,
        "built_mzi_count": onn.parts.built_mzis,
        "area_ratio": onn.card.area_ratio,
        "accuracy": evaluation.accuracy,
        "exhaustive_inputs": evaluation.combinations,
        "wrong_inputs": evaluation.wrong_inputs,
        "error_values": evaluation.error_values,
        "smallest_margin": evaluation.smallest_margin,
        "onn_sha256": onn.card.weights_sha256,
    }
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"onn": onn, "evaluation": evaluation}
