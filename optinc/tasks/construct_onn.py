"""``task=construct_onn``: build an exact ONN without training, and prove it."""

from __future__ import annotations

import time
from typing import Any

from omegaconf import DictConfig

from optinc.folders import expanded
from optinc.onn.construction.base import Construction
from optinc.onn.evaluation import Evaluation, evaluate
from optinc.onn.network import OpticalNetwork
from optinc.runs.summary import write_summary
from optinc.signal.scenario import Scenario
from optinc.tasks.end_of_training import end_of_training
from optinc.tasks.instantiate import instantiate
from optinc.tasks.store_onn import describe_stored, store_onn

MOST_SENT = 10**8
"""Most inputs that are sent one by one where a construction can prove them: minutes."""


def construct_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Construct the ONN of a scenario; its width and depth follow from scenario and construction.

    All inputs are evaluated where they can be enumerated, and where they are very many but the
    construction has a proof, proved; else samples and worst cases of carries.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the artifact.

    Raises:
        ConfigurationError: If a setting is illegal.
        WrongInputsError: If an input is received wrong, after everything is written.
    """
    scenario: Scenario = instantiate(cfg.optinc.scenario)
    construction: Construction = instantiate(cfg.construction)
    start = time.perf_counter()
    network, design = construction.build(scenario)
    seconds = time.perf_counter() - start
    evaluation = _evaluate(
        construction, network, scenario, progress=cfg.trainer.enable_progress_bar
    )
    folder = expanded(cfg.onn_training.folder)
    onn = store_onn(
        folder, cfg=cfg, network=network, design=design, evaluation=evaluation, seconds=seconds
    )
    summary = describe_stored(onn, folder, task="construct_onn")
    write_summary(cfg.paths.output_dir, summary)
    end_of_training(
        {"the ONN": onn.card},
        stored=folder,
        advice="choose another construction, or fewer optinc.bits or optinc.servers: float32 "
        "is too coarse for this one",
    )
    return summary, {"onn": onn}


def _evaluate(
    construction: Construction, network: OpticalNetwork, scenario: Scenario, *, progress: bool
) -> Evaluation:
    """Evaluate all inputs, one by one or, where there are very many, by proof; else a sample."""
    if scenario.combinations > MOST_SENT:
        proved = construction.prove(network, scenario)
        if proved is not None:
            return proved
    return evaluate(network, scenario, progress=progress)
