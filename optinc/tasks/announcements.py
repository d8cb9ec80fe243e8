"""The first and the last lines of a run: its task and folder, its result and the next commands."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import optinc
from optinc.commands import path_override, run_command
from optinc.tasks.schema import COLUMNS

LABEL = 8
"""Width of what stands before every line of the end."""

SHOWN = ("model", "data", "reducer", "strategy")
"""Groups whose options the first line of a training names."""


def opening_lines(cfg: DictConfig) -> list[str]:
    """Return the lines that say which version does what, and where it writes.

    Args:
        cfg: The composed configuration of a job of Hydra, not checked yet.
    """
    choices = HydraConfig.get().runtime.choices
    task = choices.get("task")
    typed = [each for each in HydraConfig.get().overrides.task if not each.startswith("task=")]
    shown = [f"task={task}"]
    if task == "train":
        names = [f"{name}={choices.get(name)}" for name in SHOWN]
        names.append(f"optinc.servers={OmegaConf.select(cfg, 'optinc.servers')}")
        shown += [each for each in names if each not in typed]
    # Commas would stand inside overrides as well.
    text = f"OptINC {optinc.__version__}: {' '.join([*shown, *typed])}"
    folder = HydraConfig.get().runtime.output_dir
    return [*_wrapped(text, indent="  "), f"  into {_short(folder)}"]


def closing_lines(cfg: DictConfig, summary: dict[str, Any]) -> list[str]:
    """Return the lines that name the result, the ONN, the folder and the next commands.

    Args:
        cfg: The composed configuration of the job.
        summary: Content of its ``summary.json``.
    """
    folder = Path(cfg.paths.output_dir)
    rows = [("result", _result(summary)), ("ONN", _onn(folder, summary))]
    lines: list[str] = []
    for label, text in rows:
        if text:
            lines += _wrapped(f"{label:<{LABEL}}{text}", indent=" " * LABEL)
    lines.append(f"{'folder':<{LABEL}}{_short(folder)}")
    for number, command in enumerate(_next(cfg, folder, summary)):
        lines.append(f"{'' if number else 'next':<{LABEL}}{command}")
    return lines


def _result(summary: dict[str, Any]) -> str:
    """Return the numbers by which a task is judged; empty where its table has said all."""
    task, text = summary.get("task"), ""
    if task in ("train", "evaluate"):
        shown = [f"{name} {summary[name]:.4g}" for name in _metrics(summary)]
        text = f"{', '.join(shown)} at step {summary['steps']:,}; {_seconds(summary)}"
    elif {"wrong_inputs", "exhaustive_inputs"} <= summary.keys():
        evaluated = summary.get("evaluated_inputs", summary["exhaustive_inputs"])
        text = f"{wrong_text(summary['wrong_inputs'], evaluated)}{_margin(summary)}"
    elif task == "map_onn":
        text = f"weights rebuilt from the settings differ by at most {summary['weight_error']:.1e}"
    elif task == "search_onn":
        text = f"{summary['exact']} of {summary['trials']} ONNs are right on every input"
        text += f"; the smallest has {summary['fewest_mzis']:,} MZIs" if summary["exact"] else ""
    elif task == "calibrate_chip":
        good, before = summary["good_chips"], summary["good_chips_before"]
        share = f"{100 * summary['goal']:g} % of the inputs right"
        text = f"{good} of {summary['chips']} chips receive {share}, before calibration {before}"
    elif task == "tune_cascade":
        composed = summary["composed"]
        text = (
            f"{wrong_text(composed['wrong_inputs'], composed['evaluated_inputs'])} by the cascade"
        )
    return text


def wrong_text(wrong: int, evaluated: int) -> str:
    """Return how many inputs are received wrong, of how many that were evaluated."""
    return f"{'none' if not wrong else f'{wrong:,}'} of {evaluated:,} inputs received wrong"


def _metrics(summary: dict[str, Any]) -> list[str]:
    """Return the names of the validation's values, the loss last."""
    names = [name for name in summary if name.startswith("val_") and summary[name] is not None]
    return sorted(names, key=lambda name: name == "val_loss")


def _seconds(summary: dict[str, Any]) -> str:
    return (
        f"{summary['seconds']:.0f} s" if summary["seconds"] >= 10 else f"{summary['seconds']:.1f} s"
    )


def _margin(summary: dict[str, Any]) -> str:
    margin = summary.get("smallest_margin")
    return "" if margin is None else f"; smallest margin {margin:.3f}"


def _onn(folder: Path, summary: dict[str, Any]) -> str:
    """Return name, size and errors of the ONN of a run; empty where none takes part."""
    if "structure" in summary and "mzi_count" in summary:
        return onn_text(summary)
    if summary.get("task") != "train":
        return ""
    cards = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("onn_card*.json"))]
    hashes = str(summary.get("onn_sha256")).split("+")
    # A run before in this folder may have left cards of other ONNs.
    texts = [
        f"{shipped_name(card) or card['weights_sha256'][:12]}, "
        f"{wrong_text(card['wrong_inputs'], card['evaluated_inputs'])}"
        for card in cards
        if card["weights_sha256"] in hashes
    ]
    if texts and summary.get("onn_error_rate") is not None:
        texts.append(f"{100 * summary['onn_error_rate']:.3g} % of this run's codes received wrong")
    return "; ".join(texts)


def onn_text(described: dict[str, Any]) -> str:
    """Return name, structure and area of an ONN in one line.

    Args:
        described: ``structure``, ``mzi_count``, ``area_ratio`` and perhaps ``name`` of it.
    """
    structure = "-".join(str(width) for width in described["structure"])
    name = f"{described['name']}, " if described.get("name") else ""
    area = described.get("area_ratio")
    share = "" if area is None else f", {100 * area:.1f} % of the area without approximation"
    return f"{name}{structure}, {described['mzi_count']:,} MZIs{share}"


def shipped_name(described: Mapping[str, Any]) -> str | None:
    """Return the name of a shipped ONN, None if it is none.

    Args:
        described: ``weights_sha256`` or ``onn_sha256``, and ``approximated_layers``: the same
            weights may be of Sigma U form in more layers than their area counts.
    """
    from optinc.onn import zoo  # noqa: PLC0415  (torch, which the task has imported by now)

    sha256 = described.get("weights_sha256") or described.get("onn_sha256")
    layers = tuple(described.get("approximated_layers") or ())
    cards = ((name, zoo.card(name)) for name in zoo.names())
    return next(
        (
            name
            for name, card in cards
            if (card.weights_sha256, tuple(card.approximated_layers)) == (sha256, layers)
        ),
        None,
    )


def _next(cfg: DictConfig, folder: Path, summary: dict[str, Any]) -> list[str]:
    """Return commands that go on from the run."""
    task, commands = summary.get("task"), []
    if task == "train":
        commands = [*_evaluation(cfg, folder), _comparison(folder, "OTHER_RUN")]
    elif task == "evaluate":
        commands = [_comparison(*Path(summary["checkpoint"]).parents[1:2], folder)]
    elif task in ("train_onn", "construct_onn", "import_onn"):
        onn = path_override("onn", _short(summary["onn"]))
        commands = [run_command([f"task={each}", onn]) for each in ("evaluate_onn", "map_onn")]
    elif task == "evaluate_onn":
        # The name of a shipped ONN needs no quotes, whatever a path needs.
        shipped = shipped_name(summary)
        if shipped is not None or cfg.onn is not None:
            onn = path_override("onn", cfg.onn) if shipped is None else f"onn={shipped}"
            commands = [run_command(["task=map_onn", onn])]
    elif task == "list_onns":
        commands = [run_command(["task=evaluate_onn", "onn=NAME"])]
    elif task == "tune_cascade":
        onns = path_override("optinc.topology.onns", _short(summary["onns"]))
        servers = f"optinc.servers={cfg.optinc.servers}"
        commands = [run_command(["optinc/topology=cascade", servers, onns])]
    return commands


def _evaluation(cfg: DictConfig, folder: Path) -> list[str]:
    last = folder / "checkpoints" / "last.ckpt"
    # A run without checkpoints may stand beside those of the one that it has replaced.
    if not last.is_file() or "checkpoint" not in (cfg.get("callbacks") or {}):
        return []
    return [run_command(["task=evaluate", path_override("ckpt_path", _short(last))])]


def _comparison(*runs: Path | str) -> str:
    """Return the command that compares runs, or all of the sweep that this one is part of.

    Args:
        runs: Folders, or words that a user replaces by one.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep = path_override("runs", _short(HydraConfig.get().sweep.dir))
        return run_command(["task=compare", sweep])
    named = [
        path_override("", _short(run)).removeprefix("=") if isinstance(run, Path) else run
        for run in runs
    ]
    return run_command(["task=compare", f"runs=[{','.join(named)}]"])


def _short(path: Path | str) -> str:
    """Return a path from the current folder where it lies inside, as a user would type it."""
    whole = Path(path)
    here = Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _wrapped(text: str, *, indent: str) -> Iterable[str]:
    return textwrap.wrap(
        text,
        COLUMNS,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
