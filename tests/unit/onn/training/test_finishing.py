from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.approximation import approximation_error
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.training import finishing as finishing_module
from optinc.onn.training.finishing import ONNFinishing
from tests.unit.onn.training.damaged import damaged
from tests.unit.onn.training.fitting import fit
from tests.unit.onn.training.test_one_switch import module_of

LAYERS = [(), (2, 3, 5, 6)]


def finishing(layers: tuple[int, ...] = (), **settings: Any) -> ONNFinishing:
    """The finishing of a damaged ONN."""
    network, design = damaged(layers)
    defaults: dict[str, Any] = {
        "initial": network,
        "margin": 0.03,
        "hard_margin": 0.2,
        "damping": 0.1,
        "epoch_steps": 1,
        "max_epochs": 60,
        "min_margin": 0.005,
    }
    return ONNFinishing(design=design, **(defaults | settings))


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_the_last_wrong_inputs_are_corrected(layers: tuple[int, ...]) -> None:
    module = finishing(layers)
    assert evaluate_exhaustively(module.network, module.design.scenario).wrong_inputs >= 3
    fit(module)
    evaluation = evaluate_exhaustively(module.network, module.design.scenario)
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin >= 0.005
    assert module.evaluation == evaluation
    for index in layers:
        assert approximation_error(module.network.linears[index - 1].weight) < 1e-5


def test_several_steps_between_evaluations_end_once_the_hard_inputs_are_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    module = finishing(epoch_steps=50)
    training_step = module.training_step

    def counted(batch: Any, batch_idx: int) -> None:
        steps.append(batch_idx)
        training_step(batch, batch_idx)

    monkeypatch.setattr(module, "training_step", counted)
    fit(module)
    assert max(steps) > 0
    assert len(steps) < 50
    assert module.evaluation is not None
    assert module.evaluation.wrong_inputs == 0


def trainer_of(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


SLOW = {"damping": 3.0, "margin": 0.46, "min_margin": 0.459, "hard_margin": 0.48}
"""So much damping, and no other tried, that it takes many steps."""


@pytest.fixture
def one_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing_module, "MOST_DAMPINGS", 1)


@pytest.mark.usefixtures("one_damping")
def test_a_finishing_goes_on_from_a_checkpoint_as_without_a_stop(tmp_path: Path) -> None:
    whole = finishing(**SLOW)
    trainer_of(tmp_path, 6).fit(whole)
    half = finishing(**SLOW)
    trainer = trainer_of(tmp_path, 3)
    trainer.fit(half)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert trainer.global_step == 3
    resumed = finishing(**SLOW)
    trainer_of(tmp_path, 6).fit(resumed, ckpt_path=tmp_path / "half.ckpt")
    assert (resumed.damping, resumed.stalled) == (whole.damping, whole.stalled)
    assert resumed.damping != half.damping
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name])


@pytest.mark.usefixtures("one_damping")
def test_no_step_leaves_more_missing_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: list[tuple[float, bool]] = []
    module = finishing(**SLOW, max_epochs=10)

    def log(name: str, value: Any, **_: Any) -> None:
        if name == "missing_margin":
            missing.append((value, module.stalled))

    monkeypatch.setattr(module, "log", log)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    fit(module)
    assert len(missing) > 3
    for (before, stalled), (after, _) in pairwise(missing):
        # All outputs that may fall short are among the 49 inputs' hard ones.
        assert after <= before * 1.001 or stalled
    assert missing[-1][0] < 0.5 * missing[0][0]


def test_a_step_that_only_raises_what_is_missing_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def backwards(_: object, residual_R: Tensor, **__: object) -> Tensor:
        return -residual_R.clamp(min=0)

    monkeypatch.setattr(finishing_module, "smallest_shares", backwards)
    module = finishing(max_epochs=1)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    fit(module)
    assert module.stalled
    assert module.damping > 0.1
    for name, value in module.network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_another_training_s_checkpoint_is_not_continued(small_design: ONNDesign) -> None:
    checkpoint: dict[str, Any] = {"state_dict": {}}
    finishing().on_save_checkpoint(checkpoint)
    with pytest.raises(ConfigurationError, match=r"another onn_training \(ONNFinishing\)"):
        module_of(small_design).on_load_checkpoint(checkpoint)
    module_of(small_design).on_save_checkpoint(checkpoint)
    with pytest.raises(ConfigurationError, match=r"\(ONNTraining\).*onn_training\.initial"):
        finishing().on_load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("margin", 0.0, "onn_training.margin must be > 0"),
        ("margin", 0.2, "onn_training.margin must be at least 0 and below 0.2"),
        ("hard_margin", 0.5, "onn_training.hard_margin must be at least 0 and below 0.5"),
        ("min_margin", 0.03, "onn_training.min_margin must be at least 0 and below 0.03"),
        ("damping", 0.0, "onn_training.damping must be > 0"),
        ("max_epochs", 0, "onn_training.max_epochs must be at least 1"),
        ("epoch_steps", 0, "onn_training.epoch_steps must be at least 1"),
    ],
)
def test_illegal_settings_are_refused(setting: str, value: float, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        finishing(**{setting: value})


def test_an_onn_to_start_from_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r"set onn_training\.initial"):
        finishing(initial=None)
