"""``task=import_onn``: take the weights of a network that was trained elsewhere."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from optinc.folders import expanded
from optinc.onn.evaluation import Evaluation, evaluate
from optinc.onn.importing import ImportedNetwork, fitting_rounding
from optinc.runs.summary import write_summary
from optinc.tasks.end_of_training import end_of_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.store_onn import describe_stored, store_onn


def import_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the weights, evaluate them on all possible inputs, and write the ONN with its card.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the artifact.

    Raises:
        ConfigurationError: If the weights do not fit the settings, or a setting is illegal.
        WrongInputsError: If an input is received wrong, after everything is written.
    """
    imported: ImportedNetwork = instantiate(cfg.onn_import)
    scenario = imported.design.scenario
    evaluation = evaluate(imported.network, scenario, progress=cfg.trainer.enable_progress_bar)
    folder = expanded(cfg.onn_training.folder)
    onn = store_onn(
        folder,
        cfg=cfg,
        network=imported.network,
        design=imported.design,
        evaluation=evaluation,
        seconds=0.0,
        imported_sha256=imported.sha256,
    )
    summary = describe_stored(onn, folder, task="import_onn")
    summary["imported_sha256"] = imported.sha256
    write_summary(cfg.paths.output_dir, summary)
    if evaluation.wrong_inputs:
        end_of_training(
            {"the ONN": onn.card}, stored=folder, advice=_advice(imported, evaluation, folder)
        )
    return summary, {"onn": onn}


def _advice(imported: ImportedNetwork, evaluation: Evaluation, folder: object) -> str:
    """Return what may differ between this switch and the one that the network was trained for."""
    fitting = fitting_rounding(
        imported.network, imported.design.scenario, wrong=evaluation.wrong_inputs
    )
    if fitting is not None:
        rounding, wrong = fitting
        return f"with optinc.rounding={rounding} it would be {wrong or 'none'}"
    return (
        "check onn_import.input_scale, input_offset, output_scale and output_offset, and that ReLU "
        f"stands between its layers, or train it on with onn_training.initial={folder}"
    )
