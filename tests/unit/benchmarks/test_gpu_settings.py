"""The jobs of the stages compose, and are those that the stages name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.gpu import fig7a, rows
from benchmarks.gpu.results import Options
from optinc.onn.design import ONNDesign
from optinc.tasks.config import validate
from optinc.tasks.instantiate import instantiate
from tests.hydra_jobs import composed


def options(folder: Path) -> Options:
    return Options(
        seconds=60.0,
        out=folder,
        store=folder,
        resume=None,
        commit="",
        epochs=None,
        miniature=False,
        start=time.monotonic(),
    )


@pytest.mark.parametrize("row", rows.ROWS, ids=lambda row: row.name)
def test_rows_are_trained_on_all_their_inputs(row: rows.TrainedRow, tmp_path: Path) -> None:
    cfg = composed(tmp_path, *row.overrides, *rows.common(options(tmp_path)))
    validate(cfg)
    design: ONNDesign = instantiate(cfg.optinc.design)
    assert design.scenario.combinations == row.inputs
    assert (
        design.structure
        == ONNDesign.from_settings(
            scenario=design.scenario, hidden="table1", layers="none"
        ).structure
    )
    digits = row.name.rpartition("_")[2]
    if digits.isdigit():
        assert design.approximated_layers == tuple(map(int, digits))
    assert bool(design.approximated_layers) == (digits != "dense")


@pytest.mark.parametrize("arm", fig7a.ARMS)
def test_arms_differ_in_the_average_only(arm: str, tmp_path: Path) -> None:
    cfg = composed(tmp_path, *fig7a.settings(options(tmp_path), arm), "trainer.max_epochs=3")
    validate(cfg)
    assert (cfg.model.stem, cfg.model.depth, cfg.trainer.precision) == ("cifar", 50, "bf16-mixed")
    assert (cfg.data.batch_size, cfg.data.on_device, cfg.data.augment) == (512, True, True)
    assert cfg.optinc.bits == (8 if arm == "ring" else 16)
    assert cfg.trainer.max_epochs == 3
