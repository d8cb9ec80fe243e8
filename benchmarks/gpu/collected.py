"""Show the results of ``python -m benchmarks.gpu``, and keep them in ``benchmarks/results``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import SHARES
from benchmarks.record import RESULTS
from experiments.common.record import ORIGIN, write_csv
from experiments.common.record import RESULTS as FIGURES
from experiments.common.tables import columns_of, note, show
from optinc.errors import OptINCError

SHOWN_CHECKS = 10
"""Rows of the stage ``kernels`` that are shown: the checks that failed come first."""


def show_and_keep(
    folder: Path, *, keep: bool, results: Path = RESULTS, figures: Path = FIGURES
) -> int:
    """Print the results in a folder, and keep them on request.

    Args:
        folder: Folder of ``STAGE.json``.
        keep: Write ``gpu_STAGE.csv``, the rows, and ``gpu_STAGE.json``, their provenance; of
            Fig. 7a what :mod:`experiments.fig7a` writes, with the provenance of the GPU's machine.
        results: Folder of what is kept.
        figures: Folder of Fig. 7a.

    Returns:
        1 if a stage has failures or was ended before it had finished, else 0.

    Raises:
        OptINCError: If the folder holds no result, or a miniature's is to be kept.
    """
    stages = [stage for stage in SHARES if (folder / f"{stage}.json").is_file()]
    if not stages:
        raise OptINCError(f"{folder} holds no result: none of {', '.join(SHARES)}.json")
    bad = False
    for stage in stages:
        content = json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
        if keep and content["miniature"]:
            raise OptINCError(f"{stage}.json is of --miniature, which measures nothing")
        rows = [_flat(row) for row in content["rows"]]
        _show(stage, content, rows)
        bad |= bool(content["failures"]) or not content["finished"]
        if keep and rows:
            _keep(results / f"gpu_{stage}", rows, content)
        if keep and rows and stage == "fig7a":
            _keep_fig7a(figures, content)
    return int(bad)


def _keep(path: Path, rows: list[dict[str, Any]], content: dict[str, Any]) -> None:
    """Write rows and the provenance that they had where they were measured."""
    write_csv(path.with_suffix(".csv"), rows)
    origin = {key: content[key] for key in content if key in ORIGIN or key == "step"}
    text = json.dumps(origin, indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _keep_fig7a(figures: Path, content: dict[str, Any]) -> None:
    """Write the arms and their curves as :mod:`experiments.fig7a` does."""
    kept = ("steps", "quantization_error", "onn_error_rate", "blocks", "seconds")
    arms, curves = [], []
    for row in content["rows"]:
        arm = {"arm": row["arm"], "seed": row["seed"]}
        value = {"metric": "val_acc", "value": row["val_acc"]}
        arms.append({**arm, **value, **{key: row[key] for key in kept}})
        curves += [{**arm, "step": step, "value": each} for step, each in row["validations"]]
    name, source = "fig7a_resnet50_lease", {"source": "Fig. 7a"}
    for suffix, rows, what in (("", arms, ""), ("_curves", curves, ", while training")):
        title = f"Fig. 7a, resnet50, scale lease{what}"
        _keep(figures / f"{name}{suffix}", rows, {**content, **source, "title": title})


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what fits no cell: curves, which the runs hold, and tracebacks."""
    return {k: v for k, v in row.items() if not isinstance(v, list | dict) and k != "error"}


def _show(stage: str, content: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    shown = rows
    if stage == "kernels":
        equal = sum(row["equal"] for row in rows)
        note(f"{equal} of {len(rows)} checks equal")
        shown = sorted(rows, key=lambda row: row["equal"])[:SHOWN_CHECKS]
    conditions = f"{content['date']}, commit {content['commit']}, {content['hardware']}"
    if shown:
        caption = f"{conditions}. {content['notes']}"
        show(content["title"], columns_of(shown), shown, caption=caption)
    for failure in content["failures"]:
        last = failure["error"].strip().splitlines()[-1]
        note(f"failed: {failure['what']}: {last}")
    if not content["finished"]:
        note(f"{stage} was ended after {content['seconds']:.0f} s, before it had finished")
