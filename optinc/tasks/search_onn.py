"""``task=search_onn``: search small and tolerant ONNs of a scenario."""

from __future__ import annotations

import csv
import json
import logging
import shlex
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from optinc.callbacks.progress import progress_bar
from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.noise import noisy_accuracy
from optinc.onn.training.one_switch import ONNTraining
from optinc.onn.training.search import SearchSpace, Trial, pareto_front
from optinc.photonics import area
from optinc.runs.summary import write_summary
from optinc.signal.scenario import Scenario
from optinc.tasks.instantiate import instantiate

logger = logging.getLogger(__name__)

TRIAL_FILE = "trial.json"

COLOURS = {"shipped": "C3", "constructed": "C0", "fine_tuned": "C1", "trained": "C2"}


def search_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the trials that are not done yet, and write ``search.csv`` and ``pareto.png``.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the rows of all trials.

    Raises:
        ConfigurationError: If the inputs of the scenario cannot be enumerated.
    """
    scenario: Scenario = instantiate(cfg.optinc.scenario)
    if not scenario.tabulable:
        raise ConfigurationError(
            f"task=search_onn evaluates all inputs, and {scenario} has {scenario.combinations}; "
            "choose fewer optinc.bits or optinc.servers"
        )
    settings: dict[str, Any] = OmegaConf.to_container(cfg.search, resolve=True)  # type: ignore[assignment]
    folder = Path(settings.pop("folder"))
    noise_levels, epochs = settings.pop("noise"), settings.pop("epochs")
    rows = []
    trials = SearchSpace(**settings).trials(scenario)
    for number, trial in enumerate(trials, start=1):
        path = folder / trial.name / TRIAL_FILE
        if not path.is_file():
            onn = _run(cfg, trial, folder / trial.name, epochs=epochs)
            path.write_text(json.dumps(_row(trial, onn, noise_levels), indent=2) + "\n")
        row = json.loads(path.read_text())
        rows.append(row)
        logger.info(
            "%d/%d %s: %d MZIs, %d wrong, margin %.3f",
            number,
            len(trials),
            trial.name,
            row["mzi_count"],
            row["wrong_inputs"],
            row["smallest_margin"],
        )
    exact = [row for row in rows if row["wrong_inputs"] == 0]
    front = _front(exact, "smallest_margin")
    under_noise = f"accuracy_at_{noise_levels[-1]:g}" if noise_levels else None
    noise_front = _front(exact, under_noise) if under_noise else []
    _write_csv(folder, rows, front, noise_front)
    _plot(folder, rows, front, noise_front, under_noise=under_noise)
    summary = {
        "task": "search_onn",
        "trials": len(rows),
        "exact": len(exact),
        "fewest_mzis": front[0]["mzi_count"] if front else None,
        "front": [row["name"] for row in front],
        "noise_front": [row["name"] for row in noise_front],
        "folder": str(folder),
    }
    write_summary(cfg.paths.output_dir, summary)
    return summary, {"rows": rows, "front": front}


def _run(cfg: DictConfig, trial: Trial, folder: Path, *, epochs: int) -> ONNArtifact:
    """Construct or train the ONN of a trial, and store it."""
    start = time.perf_counter()
    initial = trial.initial()
    trained_epochs, device = 0, torch.device("cpu")
    if trial.kind in ("constructed", "shipped"):
        assert initial is not None
        network = initial
    else:
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        module = ONNTraining(
            design=trial.design,
            loss=instantiate(cfg.onn_training.loss),
            optimizer=cfg.onn_training.optimizer,
            # A construction is a narrow valley: large steps would leave it.
            learning_rate=cfg.onn_training.learning_rate / (1 if initial is None else 100),
            batch_size=cfg.onn_training.batch_size,
            max_epochs=epochs,
            projection_interval=cfg.onn_training.projection_interval,
            min_margin=cfg.onn_training.min_margin,
            noise=trial.noise,
            epoch_inputs=cfg.onn_training.epoch_inputs,
            hard_share=cfg.onn_training.hard_share,
            hard_margin=cfg.onn_training.hard_margin,
            seed=cfg.seed,
            initial=initial,
        )
        trainer: pl.Trainer = instantiate(
            cfg.onn_training.trainer,
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            callbacks=progress_bar(enabled=cfg.trainer.enable_progress_bar),
        )
        trainer.fit(module)
        network, trained_epochs = module.network.cpu().eval(), trainer.current_epoch
        device = trainer.strategy.root_device
    return save_artifact(
        folder,
        network=network,
        design=trial.design,
        evaluation=evaluate_exhaustively(network, trial.design.scenario),
        seed=cfg.seed,
        epochs=trained_epochs,
        seconds=time.perf_counter() - start,
        device=device,
        command=shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
    )


def _row(trial: Trial, onn: ONNArtifact, noise_levels: list[float]) -> dict[str, Any]:
    """Return what is known of a trial's ONN."""
    card = onn.card
    return {
        "name": trial.name,
        "kind": trial.kind,
        "structure": "-".join(str(width) for width in card.structure),
        "approximated_layers": ",".join(str(layer) for layer in card.approximated_layers),
        "mzi_count": card.mzi_count,
        "honest_mzi_count": card.honest_mzi_count,
        "optical_depth": area.optical_depth(card.structure, card.approximated_layers),
        "wrong_inputs": card.wrong_inputs,
        "smallest_margin": card.smallest_margin,
        "seconds": card.seconds,
    } | {
        f"accuracy_at_{level:g}": noisy_accuracy(onn.network, card.scenario, noise=level)
        for level in noise_levels
    }


def _front(exact: list[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """Return the exact ONNs that no other beats in interferometers and ``value``."""
    return [exact[i] for i in pareto_front([(row["mzi_count"], row[value]) for row in exact])]


def _write_csv(
    folder: Path,
    rows: list[dict[str, Any]],
    front: list[dict[str, Any]],
    noise_front: list[dict[str, Any]],
) -> None:
    """Write all trials."""
    with (folder / "search.csv").open("w", newline="", encoding="utf-8") as file:
        columns = [*rows[0], "on_front", "on_noise_front"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            row | {"on_front": row in front, "on_noise_front": row in noise_front} for row in rows
        )


def _plot(
    folder: Path,
    rows: list[dict[str, Any]],
    front: list[dict[str, Any]],
    noise_front: list[dict[str, Any]],
    *,
    under_noise: str | None,
) -> None:
    """Plot interferometers against margin, and against accuracy under the strongest noise."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    panels = [("smallest_margin", "smallest margin, PAM4 amplitudes", front)]
    if under_noise is not None:
        level = 100 * float(under_noise.rsplit("_", 1)[1])
        panels.append((under_noise, f"inputs received right under {level:g} % noise", noise_front))
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(6 * len(panels), 4.5), layout="constrained", squeeze=False
    )
    for axes, (value, label, best) in zip(all_axes[0], panels, strict=True):
        for kind in ("shipped", "constructed", "fine_tuned", "trained"):
            for exact in (True, False):
                points = [
                    row
                    for row in rows
                    if row["kind"] == kind and (row["wrong_inputs"] == 0) == exact
                ]
                axes.scatter(
                    [row["mzi_count"] for row in points],
                    [row[value] for row in points],
                    edgecolors=COLOURS[kind],
                    facecolors=COLOURS[kind] if exact else "none",
                    label=kind.replace("_", "-") if exact else None,
                )
        axes.step(
            [row["mzi_count"] for row in best],
            [row[value] for row in best],
            where="post",
            color="black",
            linewidth=1,
            label="front",
        )
        axes.set(xscale="log", xlabel="interferometers, without P and T", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Filled: right on every input; hollow: not")
    figure.savefig(folder / "pareto.png", dpi=150)
    plt.close(figure)
