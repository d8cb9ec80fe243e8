"""``task=search_onn``: search small and tolerant ONNs of a scenario."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from optinc.callbacks.progress import progress_bar
from optinc.errors import ConfigurationError
from optinc.folders import expanded
from optinc.onn.artifact import ONNArtifact
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import noisy_accuracy
from optinc.onn.training.one_switch import ONNTraining
from optinc.onn.training.search import SearchSpace, Trial, pareto_front
from optinc.runs.summary import write_summary
from optinc.signal.scenario import Scenario
from optinc.tasks.csv_file import write_csv
from optinc.tasks.instantiate import instantiate
from optinc.tasks.search_plot import Panel, plot_search
from optinc.tasks.store_onn import store_onn

logger = logging.getLogger(__name__)

NOT_SEARCHED = {"initial": None, "max_steps": None, "chips": 0}
"""Settings of ``onn_training`` that a search has none of, with what they are left at."""

NOT_A_RECIPE = ("folder", "module", "trainer", "max_epochs", "max_steps", "noise", "initial")
"""Entries of ``onn_training`` that a trial does not depend on: some it has of its own."""

TRIAL_FILE = "trial.json"
SETTINGS_FILE = "settings.json"
CSV_FILE = "search.csv"
PLOT_FILE = "pareto.png"


def search_onn(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the trials that are not done yet, and write ``search.csv`` and ``pareto.png``.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the rows of all trials.

    Raises:
        ConfigurationError: If the inputs of the scenario cannot be enumerated, ``onn_training``
            trains no ONN from random weights or has settings that a search has none of, or
            ``search.folder`` holds trials of other settings.
    """
    if cfg.choices.onn_training == "finish":
        raise ConfigurationError(
            "task=search_onn trains ONNs from random weights, which onn_training=finish does not: "
            "choose margin | paper | large | polish"
        )
    for name, unset in NOT_SEARCHED.items():
        if (value := cfg.onn_training.get(name)) != unset:
            raise ConfigurationError(
                f"task=search_onn does not read onn_training.{name}={value}: trials start from "
                "random weights or a construction, have search.epochs epochs, and no chips; leave "
                f"it {'null' if unset is None else unset}"
            )
    scenario: Scenario = instantiate(cfg.optinc.scenario)
    if not scenario.tabulable:
        raise ConfigurationError(
            f"task=search_onn evaluates all inputs, and {scenario} has {scenario.combinations}; "
            "choose fewer optinc.bits or optinc.servers"
        )
    settings: dict[str, Any] = OmegaConf.to_container(cfg.search, resolve=True)  # type: ignore[assignment]
    folder = expanded(settings.pop("folder"))
    noises, epochs = settings.pop("noise"), settings.pop("epochs")
    trials = SearchSpace(**settings).trials(scenario)
    _check_folder(folder, _what_trials_depend_on(cfg, scenario, epochs=epochs, noises=noises))
    rows = []
    for number, trial in enumerate(trials, start=1):
        rows.append(_row(cfg, trial, folder / trial.name, epochs=epochs, noises=noises))
        _log(f"{number}/{len(trials)}", rows[-1])
    exact = [row for row in rows if row["wrong_inputs"] == 0]
    front = _front(exact, "smallest_margin")
    noise_front = _front(exact, _accuracy_at(noises[-1])) if noises else []
    _write(folder, rows, front, noise_front, noise=noises[-1] if noises else None)
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


def _what_trials_depend_on(
    cfg: DictConfig, scenario: Scenario, *, epochs: int, noises: list[float]
) -> dict[str, Any]:
    """Return what decides the result of a trial besides its name."""
    training = OmegaConf.to_container(cfg.onn_training, resolve=True)
    assert isinstance(training, dict)
    kept = {name: value for name, value in training.items() if name not in NOT_A_RECIPE}
    found = {"scenario": repr(scenario), "epochs": epochs, "noise": noises, "seed": cfg.seed}
    return {**found, "onn_training": kept}


def _check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings of the trials in a folder, or compare them.

    Raises:
        ConfigurationError: If it holds trials of other settings; names these.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name in settings if before.get(name) != settings[name]]:
            told = ", ".join(f"{name} {before.get(name)}" for name in differing)
            raise ConfigurationError(
                f"search.folder={folder} holds trials of other settings ({told}), whose results "
                "would be told to be those of this search: choose another folder"
            )
        return
    if any(folder.glob(f"*/{TRIAL_FILE}")):
        raise ConfigurationError(
            f"search.folder={folder} holds trials that do not tell their settings, maybe others "
            "than these: choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _row(
    cfg: DictConfig, trial: Trial, folder: Path, *, epochs: int, noises: list[float]
) -> dict[str, Any]:
    """Return the row of a trial, read from its folder, or run and written there first."""
    path = folder / TRIAL_FILE
    if not path.is_file():
        onn = _run(cfg, trial, folder, epochs=epochs)
        path.write_text(json.dumps(_measured(trial, onn, noises), indent=2) + "\n")
    row: dict[str, Any] = json.loads(path.read_text())
    return row


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
        module = _training(cfg, trial, initial, epochs=epochs)
        trainer = _trainer(cfg, epochs=epochs)
        trainer.fit(module)
        module.to_cpu()
        network, trained_epochs = module.network.eval(), trainer.current_epoch
        device = trainer.strategy.root_device
    return store_onn(
        folder,
        cfg=cfg,
        network=network,
        design=trial.design,
        evaluation=evaluate_exhaustively(network, trial.design.scenario),
        epochs=trained_epochs,
        seconds=time.perf_counter() - start,
        device=device,
    )


def _training(
    cfg: DictConfig, trial: Trial, initial: OpticalNetwork | None, *, epochs: int
) -> ONNTraining:
    """Build the training of a trial, with the other settings of ``onn_training``."""
    settings = cfg.onn_training
    return ONNTraining(
        design=trial.design,
        loss=instantiate(settings.loss),
        optimizer=settings.optimizer,
        # A construction is a narrow valley: large steps would leave it.
        learning_rate=settings.learning_rate / (1 if initial is None else 100),
        batch_size=settings.batch_size,
        max_epochs=epochs,
        max_steps=None,
        epoch_steps=settings.epoch_steps,
        projection_interval=settings.projection_interval,
        min_margin=settings.min_margin,
        noise=trial.noise,
        epoch_inputs=settings.epoch_inputs,
        hard_share=settings.hard_share,
        hard_margin=settings.hard_margin,
        even_share=settings.even_share,
        averaging=settings.averaging,
        seed=cfg.seed,
        initial=initial,
    )


def _trainer(cfg: DictConfig, *, epochs: int) -> pl.Trainer:
    """Build a trainer that logs nothing and keeps no checkpoints."""
    trainer: pl.Trainer = instantiate(
        cfg.onn_training.trainer,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        callbacks=progress_bar(enabled=cfg.trainer.enable_progress_bar),
    )
    return trainer


def _measured(trial: Trial, onn: ONNArtifact, noises: list[float]) -> dict[str, Any]:
    """Return size, margin and noisy accuracies of a trial's ONN."""
    card, parts = onn.card, onn.parts
    return {
        "name": trial.name,
        "kind": trial.kind,
        "structure": "-".join(str(width) for width in card.structure),
        "approximated_layers": ",".join(str(layer) for layer in card.approximated_layers),
        "mzi_count": card.mzi_count,
        "built_mzi_count": parts.built_mzis,
        "optical_depth": parts.optical_depth,
        "wrong_inputs": card.wrong_inputs,
        "smallest_margin": card.smallest_margin,
        "seconds": card.seconds,
    } | {
        _accuracy_at(noise): noisy_accuracy(onn.network, card.scenario, noise=noise)
        for noise in noises
    }


def _accuracy_at(noise: float) -> str:
    """Return the column of the accuracy under a noise, a share of full scale."""
    return f"accuracy_at_{noise:g}"


def _write(
    folder: Path,
    rows: list[dict[str, Any]],
    front: list[dict[str, Any]],
    noise_front: list[dict[str, Any]],
    *,
    noise: float | None,
) -> None:
    """Write ``search.csv`` and ``pareto.png``; the second panel shows the strongest noise."""
    write_csv(
        folder / CSV_FILE,
        [row | {"on_front": row in front, "on_noise_front": row in noise_front} for row in rows],
    )
    panels = [Panel("smallest_margin", "smallest margin, PAM4 amplitudes", front)]
    if noise is not None:
        label = f"inputs received right under {100 * noise:g} % noise"
        panels.append(Panel(_accuracy_at(noise), label, noise_front))
    plot_search(folder / PLOT_FILE, rows, panels)


def _front(exact: list[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """Return the exact ONNs that no other beats in interferometers and ``value``."""
    return [exact[i] for i in pareto_front([(row["mzi_count"], row[value]) for row in exact])]


def _log(progress: str, row: dict[str, Any]) -> None:
    logger.info(
        "%s %s: %d MZIs, %d wrong, margin %.3f",
        progress,
        row["name"],
        row["mzi_count"],
        row["wrong_inputs"],
        row["smallest_margin"],
    )
