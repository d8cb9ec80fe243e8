"""Cascades of switches: trained through, played in light, and tuned.

Covers: optinc.tasks.tune_cascade
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from optinc.errors import ConfigurationError, MissingONNError
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.training.cascade import CascadeTraining
from tests.hydra_jobs import TINY, composed, job
from tests.integration.jobs import run_jobs

CASCADE = ["optinc/topology=cascade", "optinc.servers=16"]
TRAINED = [*TINY, "trainer.max_steps=3", "data.batch_size=16"]
SMALL = [
    "optinc/topology=cascade",
    "optinc.bits=4",
    "optinc.servers=3",
    "optinc.topology.fan_in=2",
]


@pytest.fixture(scope="module")
def onns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Constructed ONNs for a tree of 4 bits and fan-in 2."""
    folder = tmp_path_factory.mktemp("onns")
    for level in (1, 2):
        summary, _ = job(
            folder / f"run{level}",
            "task=construct_onn",
            *SMALL,
            f"optinc.topology.level={level}",
            f"onn_training.folder={folder}/level{level}",
        )
        assert summary["wrong_inputs"] == 0
    return folder


def test_a_cascade_trains_as_one_ideal_switch_would(tmp_path: Path) -> None:
    table, _ = job(tmp_path / "table", *TRAINED, *CASCADE)
    ideal, _ = job(tmp_path / "ideal", *TRAINED, "optinc.servers=16", "optinc/fidelity=ideal")
    assert table["weights_sha256"] == ideal["weights_sha256"]
    assert table["servers"] == 16
    assert table["onn_error_rate"] == 0
    cards = sorted((tmp_path / "table").glob("onn_card_level*.json"))
    assert [json.loads(path.read_text())["keeps_decimal"] for path in cards] == [True, False]


def test_a_cascade_that_sends_the_whole_sum_back_trains_as_one_ideal_switch(tmp_path: Path) -> None:
    decimal = ["optinc.downlink=decimal", "optinc.servers=16"]
    table, _ = job(tmp_path / "table", *TRAINED, *decimal, CASCADE[0])
    ideal, _ = job(tmp_path / "ideal", *TRAINED, *decimal, "optinc/fidelity=ideal")
    assert table["weights_sha256"] == ideal["weights_sha256"]
    assert table["onn_error_rate"] == 0
    # log2(16) bits more come back than were sent: 8, and a scale of 32 for at most 256 values.
    sent, received = table["bytes_optinc"], table["bytes_optinc_received"]
    full = 32 / 256
    assert (12 + 1.1 * full) / (8 + 1.1 * full) < received / sent <= (12 + full) / (8 + full)


def test_quantising_at_every_level_trains_otherwise(tmp_path: Path) -> None:
    lossy = ["optinc.topology.quantize=every_level", "optinc/fidelity=ideal"]
    basic, _ = job(tmp_path / "basic", *TRAINED, *CASCADE, *lossy)
    table, _ = job(tmp_path / "table", *TRAINED, *CASCADE, lossy[0])
    assert basic["onn_error_rate"] > 0.01
    assert basic["weights_sha256"] == table["weights_sha256"]


def test_sixty_four_servers_train(tmp_path: Path) -> None:
    deep = ["optinc.servers=64", "optinc.topology.depth=3", "data.batch_size=64"]
    table, _ = job(tmp_path / "table", *TRAINED, *CASCADE, *deep)
    ideal, _ = job(
        tmp_path / "ideal", *TRAINED, "optinc.servers=64", deep[2], "optinc/fidelity=ideal"
    )
    assert table["weights_sha256"] == ideal["weights_sha256"]


def test_light_between_the_levels_trains_like_tables(tmp_path: Path, onns: Path) -> None:
    settings = [*TRAINED, *SMALL, f"optinc.topology.onns={onns}"]
    light, _ = job(tmp_path / "light", *settings, "optinc/fidelity=onn")
    table, _ = job(tmp_path / "table", *settings)
    assert light["weights_sha256"] == table["weights_sha256"]
    assert light["onn_error_rate"] == 0


REAL = {
    quantize: [
        *TINY,
        "trainer.max_steps=3",
        "data.batch_size=3",
        "optinc/topology=cascade",
        # One input is dark.
        "optinc.servers=3",
        "optinc.topology.fan_in=2",
        f"optinc.topology.quantize={quantize}",
        "optinc/fidelity=ideal",
    ]
    for quantize in ("top", "every_level")
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Summaries of three real servers below a cascade, by where it quantises."""
    folder = tmp_path_factory.mktemp("real")
    summaries = run_jobs(3, {folder / quantize: job for quantize, job in REAL.items()})
    return dict(zip(REAL, summaries, strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("quantize", REAL)
def test_real_servers_below_a_cascade_end_in_the_weights_of_virtual_ones(
    quantize: str, real: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    virtual, _ = job(tmp_path, *REAL[quantize])
    assert real[quantize]["weights_sha256"] == virtual["weights_sha256"]
    assert (real[quantize]["onn_error_rate"] > 0) == (quantize == "every_level")


def test_levels_are_tuned_until_light_between_them_is_received_right(
    tmp_path: Path, onns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(onns / "level2", own / "level2")
    below = ONNArtifact.load(onns / "level1")
    # Received right by receivers of its own, but half a step of the next level's input.
    below.network.linears[-1].bias[-1] += 0.3 / below.card.servers
    design = ONNDesign.of_network(below.network, below.card.scenario)
    save_artifact(
        own / "level1",
        network=below.network,
        design=design,
        evaluation=evaluate_exhaustively(below.network, below.card.scenario),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="none",
    )
    short = [
        f"optinc.topology.onns={own}",
        f"cascade_tuning.folder={tmp_path}/tuned",
        "cascade_tuning.check_samples=2000",
        "cascade_tuning.final_samples=4000",
        "cascade_tuning.epoch_batches=50",
        "cascade_tuning.max_epochs=8",
        "cascade_tuning.learning_rate=1e-3",
        "trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
    ]
    summary, _ = job(tmp_path / "run", "task=tune_cascade", *SMALL, *short)
    carry_chains = 2 * 15 * 4
    assert summary["before"]["wrong_inputs"] > 100
    assert summary["composed"]["evaluated_inputs"] == 4000 + carry_chains
    assert summary["composed"]["wrong_inputs"] == 0
    assert summary["epochs"] <= 8
    for level in (1, 2):
        card = ONNArtifact.load(tmp_path / "tuned" / f"level{level}").card
        assert (card.level, card.wrong_inputs, card.epochs) == (level, 0, summary["epochs"])

    def lose_power(module: CascadeTraining) -> None:
        if module.current_epoch == 1:
            raise RuntimeError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(CascadeTraining, "on_train_epoch_start", lose_power)
        with pytest.raises(RuntimeError, match="no power"):
            job(tmp_path / "half", "task=tune_cascade", *SMALL, *short)
    checkpoint = f"ckpt_path={tmp_path}/half/checkpoints/last.ckpt"
    resumed, _ = job(tmp_path / "resumed", "task=tune_cascade", *SMALL, *short, checkpoint)
    assert resumed["levels"] == summary["levels"]
    # What Ctrl-C advises; and a training that has ended is no other one after it.
    again, _ = job(tmp_path / "half", "task=tune_cascade", *SMALL, *short, "resume=auto")
    assert again["levels"] == summary["levels"]
    ended, _ = job(tmp_path / "half", "task=tune_cascade", *SMALL, *short, "resume=auto")
    assert (ended["levels"], ended["epochs"]) == (summary["levels"], summary["epochs"])


def test_illegal_cascades_are_refused_before_anything_starts(tmp_path: Path) -> None:
    for settings, error, message in (
        (["optinc.servers=17"], ConfigurationError, r"serves 5 to 16 servers; use .*depth=3"),
        (["onn=mine"], ConfigurationError, r"onn=mine names the ONN of a single switch"),
        (["optinc.topology.onns=mine"], MissingONNError, r"task=construct_onn"),
        (["optinc.topology.level=1"], ConfigurationError, r"level=1 chooses .* must be null"),
        (
            [
                *("optinc/fidelity=error_injection", "optinc/errors=table2_4_5_6_7"),
                "optinc.topology.quantize=every_level",
            ],
            ConfigurationError,
            r"optinc.topology.quantize must be top",
        ),
        (
            ["optinc/fidelity=error_injection"],
            ConfigurationError,
            r"optinc/errors=measured takes the errors of a single ONN",
        ),
        (
            ["optinc.topology.analog_levels=32"],
            ConfigurationError,
            r"61 levels, more than optinc.topology.analog_levels=32",
        ),
    ):
        with pytest.raises(error, match=message):
            job(tmp_path, *TRAINED, *CASCADE, *settings)
    with pytest.raises(ConfigurationError, match=r"needs optinc/topology=cascade"):
        job(tmp_path, "task=tune_cascade")


def test_the_expanded_structure_of_a_level_is_that_of_the_paper(tmp_path: Path) -> None:
    design = instantiate(composed(tmp_path, *CASCADE, "optinc.topology.level=2").optinc.design)
    assert design.structure == (4, 64, 64, 128, 256, 128, 64, 64, 4)
    assert design.approximated_layers == tuple(range(1, 9))
