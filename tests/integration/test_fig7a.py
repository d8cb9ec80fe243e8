"""Fig. 7a's experiments: every file runs, arms differ in nothing but the average."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments import fig7a
from experiments.common import paired, runs
from optinc.errors import ConfigurationError
from optinc.models.resnet import ResNetClassifier
from optinc.runs.summary import weights_sha256
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.tasks.config import validate
from optinc.tasks.instantiate import instantiate
from optinc.tasks.main import CONF
from tests.hydra_jobs import TINY, composed, job
from tests.modules import run_job

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
ARMS = sorted(path.stem for path in (CONF / "arm").glob("*.yaml"))
# The table of 16 bits takes minutes to make where it is not cached.
TRAINED_ARMS = [arm for arm in ARMS if arm != "onn_16"]
ALL_ARMS = (*fig7a.ARMS, *fig7a.INJECTED_ARMS)
SMALL = [*TINY, "data=pydocs", "callbacks=no_checkpoint"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_on_two_batches(experiment: str, tmp_path: Path) -> None:
    """On data that come with the packages, and whatever scale it has."""
    settings = [f"experiment={experiment}", "debug=two_batches", "trainer.accelerator=cpu"]
    if experiment.startswith("fig7a"):
        data = "pydocs" if experiment == "fig7a_llama" else "digits"
        settings += ["scale=smoke", f"data={data}", "data.batch_size=8", "arm=onn_8"]
    summary, _ = job(tmp_path, *settings, "trainer.enable_progress_bar=false")
    assert summary["experiment"] == experiment
    assert summary["steps"] == 2
    assert summary["onn_error_rate"] == 0


def test_there_are_arms() -> None:
    assert {"ring", "ideal_16", "onn_8", "onn_16", "table2_3_4_5_6"} <= set(ARMS)


def train(arm: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train one arm, and note initial weights and all batches."""
    batches = hashlib.sha256()
    start: list[str] = []
    original = VirtualServersStrategy.training_step

    def noting(self: VirtualServersStrategy, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if not start:
            start.append(weights_sha256(self.lightning_module))
        batches.update(batch["input_ids"].numpy().tobytes())
        return original(self, batch, *args, **kwargs)

    monkeypatch.setattr(VirtualServersStrategy, "training_step", noting)
    scale = ["experiment=fig7a_llama", "scale=smoke", "trainer.max_steps=3", f"arm={arm}"]
    limits = ["trainer.val_check_interval=3", "trainer.limit_val_batches=1"]
    summary, _ = job(folder, *SMALL, *scale, *limits)
    return {"start": start[0], "batches": batches.hexdigest(), **summary}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each arm has started from, seen and become."""
    results = {}
    for arm in TRAINED_ARMS:
        with pytest.MonkeyPatch.context() as patch:
            results[arm] = train(arm, tmp_path_factory.mktemp(arm), patch)
    return results


@pytest.mark.parametrize("arm", TRAINED_ARMS)
def test_arms_share_weights_and_samples(arm: str, trained: dict[str, dict[str, Any]]) -> None:
    summary, baseline = trained[arm], trained["ring"]
    assert summary["start"] == baseline["start"]
    assert summary["batches"] == baseline["batches"]
    assert summary["arm"] == arm
    assert (summary["weights_sha256"] == baseline["weights_sha256"]) == (arm == "ring")


def test_our_onns_do_what_a_perfect_one_does(trained: dict[str, dict[str, Any]]) -> None:
    assert trained["onn_8"]["weights_sha256"] == trained["ideal_8"]["weights_sha256"]
    assert trained["onn_8"]["onn_error_rate"] == 0
    assert trained["table2_4_5_6"]["weights_sha256"] == trained["ideal_16"]["weights_sha256"]
    assert trained["table2_3_4_5_6"]["onn_error_rate"] > 0


@pytest.mark.parametrize("experiment", ["fig7a_resnet50", "fig7a_llama"])
def test_a_multirun_takes_the_arms_of_the_experiment(experiment: str) -> None:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    arms = yaml.safe_load(text)["hydra"]["sweeper"]["params"]["arm"]
    assert arms.split(",") == [*fig7a.ARMS, *fig7a.INJECTED_ARMS]


def test_a_scale_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"scale must be paper \| day \| lease \| cpu \| smoke, got big"
    ):
        job(tmp_path, "experiment=fig7a_resnet50", "scale=big", "data.root=x")
    with pytest.raises(ConfigurationError, match="scale must be null, since no experiment"):
        job(tmp_path, "scale=smoke")


def test_the_scale_of_two_cores_has_a_recipe_of_its_own(tmp_path: Path) -> None:
    root = f"data.root={tmp_path}"
    cfg = composed(tmp_path, "experiment=fig7a_resnet50", "scale=cpu", "arm=onn_16", root)
    validate(cfg)
    model: ResNetClassifier = instantiate(cfg.model, num_classes=100)
    configured: Any = model.optimizer_factory([torch.nn.Parameter(torch.zeros(1))])
    assert type(configured) is torch.optim.AdamW
    assert configured.defaults["lr"] == 1e-3
    assert configured.defaults["weight_decay"] == 0.05
    assert (cfg.trainer.max_epochs, cfg.trainer.precision) == (5, "32-true")
    assert (cfg.model.stem, cfg.model.label_smoothing, cfg.data.augment) == ("imagenet", 0.1, True)
    text = ("data=text", "data.tokenizer=bpe", root)
    cfg = composed(tmp_path, "experiment=fig7a_llama", "scale=cpu", "arm=onn_16", *text)
    validate(cfg)
    assert (cfg.model.layers, cfg.model.hidden_size, cfg.trainer.max_steps) == (8, 384, 1500)
    assert (cfg.data.tokenizer, cfg.data.vocab_size, cfg.data.batch_size) == ("bpe", 4096, 8)


def test_other_scales_keep_their_optimiser(tmp_path: Path) -> None:
    settings = ("experiment=fig7a_resnet50", f"data.root={tmp_path}", "model.optimizer.lr=0.3")
    cfg = composed(tmp_path, *settings, "scale=paper")
    model: ResNetClassifier = instantiate(cfg.model, num_classes=100)
    configured: Any = model.optimizer_factory([torch.nn.Parameter(torch.zeros(1))])
    assert type(configured) is torch.optim.SGD
    kept = {key: configured.defaults[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
    assert kept == {"lr": 0.3, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    assert cfg.trainer.precision == "32-true"


def test_the_scale_of_two_cores_has_five_arms_and_one_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(fig7a, "train", lambda folder, *overrides: started.append(folder.name))
    for scale in ("cpu", "day"):
        arguments = ["resnet50", "--scale", scale, "data.root=x", "--runs", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["fig7a", *arguments])
        with pytest.raises(SystemExit, match="2"):  # nothing was trained
            fig7a.main()
    arms = ("ring", "onn_16", "onn_8", "table2_3_4_5_6", "chip_8")
    assert started[:5] == [f"{arm}-1" for arm in arms]
    assert started[5:] == [f"{arm}-{seed}" for arm, seed in fig7a.plan([*ALL_ARMS], [1, 2, 3])]


def test_fig7a_trains_what_is_missing_and_gathers_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def noted(*arguments: str, **options: Any) -> None:
        started.append(arguments[0])
        run_job(*arguments, **options)

    monkeypatch.setattr(runs, "python", noted)
    line = [
        *["fig7a", "llama", "--scale", "smoke"],
        *["--arms", "ring", "table2_3_4_5_6", "--seeds", "1", "2"],
        *["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")],
        *[*SMALL, "trainer.max_steps=2", "trainer.val_check_interval=1"],
        "trainer.limit_val_batches=1",
    ]
    monkeypatch.setattr(sys, "argv", line)
    fig7a.main()
    assert started == ["run.py"] * 3
    with (tmp_path / "results" / "fig7a_llama_smoke.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Arms that draw errors are trained with one seed.
    arms = [(row["arm"], row["seed"], row["metric"], row["steps"]) for row in rows]
    assert arms == [
        ("ring", "1", "val_loss", "2"),
        ("ring", "2", "val_loss", "2"),
        ("table2_3_4_5_6", "1", "val_loss", "2"),
    ]
    losses = [float(row["value"]) for row in rows]
    assert all(loss > 0 for loss in losses)
    assert [float(row["perplexity"]) for row in rows] == pytest.approx([exp(x) for x in losses])
    with (tmp_path / "results" / "fig7a_llama_smoke_curves.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    for name in ("fig7a_llama_smoke", "fig7a_llama_smoke_curves"):
        origin = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert origin["source"] == "Fig. 7a"
    fig7a.main()
    assert started == ["run.py"] * 3
    # A finished run of other settings is neither trained again nor taken for one of these.
    monkeypatch.setattr(sys, "argv", [*line, "model.optimizer.lr=0.5"])
    with pytest.raises(SystemExit, match="2"):
        fig7a.main()
    assert started == ["run.py"] * 3


def finished(
    folder: Path, *, arm: str, seed: int, steps: int = 9, more: Sequence[str] = ()
) -> None:
    """Leave what a finished run of ``scale=cpu`` leaves."""
    settings = ["experiment=fig7a_llama", "scale=cpu", f"arm={arm}", f"seed={seed}"]
    overrides = [*fig7a.OPTIONS, *settings, "data=text", "data.root=here", *more]
    run = {"experiment": "fig7a_llama", "scale": "cpu", "arm": arm, "seed": seed}
    summary = {**run, "data": "text", "precision": "32-true", "steps": steps, "val_loss": 3.5}
    place = folder / f"{arm}-{seed}"
    (place / ".hydra").mkdir(parents=True)
    (place / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    (place / "summary.json").write_text(json.dumps(summary))
    (place / "metrics.csv").write_text("step,val_loss\n5,4.5\n9,3.5\n")


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, list[dict[str, str]]]]:
    """Gathers the runs of a folder, and returns the rows of both results."""
    monkeypatch.setattr(paired, "RESULTS", tmp_path / "record")

    def run(name: str, *arguments: str) -> dict[str, list[dict[str, str]]]:
        folders = ["--runs", str(tmp_path / name), "--results", str(tmp_path / "record")]
        line = ["fig7a", "llama", "--scale", "cpu", *folders, "data=text", "data.root=there"]
        monkeypatch.setattr(sys, "argv", [*line, *arguments])
        fig7a.main()
        found = {}
        for part in ("", "_curves"):
            with (tmp_path / "record" / f"fig7a_llama_cpu{part}.csv").open(newline="") as file:
                found[part] = list(csv.DictReader(file))
        return found

    return run


def test_fig7a_goes_on_where_another_machine_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    finished(tmp_path / "one", arm="ring", seed=1)
    command("one", "--arms", "ring")
    trained: list[str] = []

    def stand_in(folder: Path, *overrides: str) -> None:
        trained.append(folder.name)
        finished(folder.parent, arm=folder.name.removesuffix("-1"), seed=1)

    monkeypatch.setattr(fig7a, "run", stand_in)
    found = command("two", "--arms", "ring", "chip_8", "--with-recorded")
    assert trained == ["chip_8-1"]
    assert [row["arm"] for row in found[""]] == ["ring", "chip_8"]
    assert [(row["arm"], row["step"]) for row in found["_curves"]] == [
        *[("ring", "5"), ("ring", "9")],
        *[("chip_8", "5"), ("chip_8", "9")],
    ]
    origin = json.loads((tmp_path / "record" / "fig7a_llama_cpu.json").read_text())
    assert origin["command"] == (
        "python -m experiments.fig7a llama --scale cpu --arms ring chip_8 data=text "
        "data.root=FOLDER"
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 12}, "steps is 12 and 9"),
        ({"more": ["data.batch_size=8"]}, "settings is .* and "),
    ],
)
def test_runs_of_other_settings_do_not_share_a_table(
    other: dict[str, Any],
    message: str,
    tmp_path: Path,
    command: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    finished(tmp_path / "one", arm="ring", seed=1, **other)
    finished(tmp_path / "one", arm="chip_8", seed=1)
    with pytest.raises(SystemExit, match="2"):
        command("one", "--collect", str(tmp_path / "one"))
    assert re.search(message, capsys.readouterr().err)


def test_two_runs_of_an_arm_and_seed_do_not_share_a_table(
    tmp_path: Path, command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sweeps of a day: each page would show another mean of them."""
    for sweep in ("first", "second"):
        finished(tmp_path / "day" / sweep, arm="ring", seed=1)
    with pytest.raises(SystemExit, match="2"):
        command("one", "--collect", str(tmp_path / "day"))
    assert re.search("are both runs of arm ring with seed 1", capsys.readouterr().err)


def test_the_command_of_gathered_runs_repeats_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    finished(tmp_path / "one", arm="ring", seed=1, more=["data=text", "data.batch_size=8"])
    places = ["--collect", str(tmp_path / "one"), "--results", str(tmp_path / "record")]
    monkeypatch.setattr(sys, "argv", ["fig7a", "llama", "--scale", "cpu", *places])
    fig7a.main()
    told = json.loads((tmp_path / "record" / "fig7a_llama_cpu.json").read_text())["command"]
    assert "--arms ring data.batch_size=8 data=text data.root=FOLDER" in told


def test_gathering_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["llama", "--scale", "day", "--collect", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["fig7a", *arguments])
    with pytest.raises(SystemExit, match="2"):
        fig7a.main()
    assert "no finished run of fig7a_llama with scale=day" in capsys.readouterr().err


def test_an_override_behind_arms_is_no_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(fig7a, "train", lambda folder, *overrides: started.append(overrides))
    arguments = ["llama", "--scale", "smoke", "--arms", "ring", "data.root=FOLDER", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["fig7a", *arguments, "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):  # nothing was trained
        fig7a.main()
    assert "no finished run" in capsys.readouterr().err
    settings = ("experiment=fig7a_llama", "scale=smoke", "arm=ring", "seed=1")
    assert started == [(*settings, "data.root=FOLDER")]
