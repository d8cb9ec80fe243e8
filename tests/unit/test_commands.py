"""Commands that messages suggest are split by a shell, and read by Hydra, as they are meant."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from optinc import commands
from optinc.commands import (
    construct_onn_command,
    path_override,
    run_command,
    scenario_overrides,
    train_onn_overrides,
)
from optinc.onn.design import LARGE, ONNDesign, settings_of
from optinc.signal.scenario import Scenario, make_scenario
from optinc.signal.tree import Tree, make_tree
from optinc.tasks.instantiate import instantiate
from tests.hydra_jobs import composed


def switches_of_cascade(depth: int) -> list[Scenario]:
    tree = make_tree(
        bits=8,
        servers=4**depth,
        onn_inputs="auto",
        rounding="half_up",
        fan_in=4,
        depth=depth,
        quantize="top",
        analog_levels=2**16,
    )
    assert isinstance(tree, Tree)
    return list(tree.levels)


SCENARIOS = [
    make_scenario(bits=8, servers=5, onn_inputs=2, rounding="floor"),
    make_scenario(bits=16, servers=4, onn_inputs=4, rounding="half_even"),
    *switches_of_cascade(2),
    *switches_of_cascade(3)[1:],
    Scenario(bits=2, servers=4, onn_inputs=1, rounding="floor", downlink="decimal"),
    Scenario(bits=4, servers=4, onn_inputs=2, rounding="floor", level=2, downlink="decimal"),
]


def arguments(command: str) -> list[str]:
    """Overrides of a command, as the shell hands them over."""
    python, script, *overrides = shlex.split(command)
    assert (python, script) == ("python", "run.py")
    OverridesParser.create().parse_overrides(overrides)
    return overrides


def configuration(command: str, folder: Path) -> DictConfig:
    return composed(folder, *arguments(command))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_training_is_of_the_design_that_its_command_names(
    scenario: Scenario, tmp_path: Path
) -> None:
    design = ONNDesign.from_settings(scenario=scenario, hidden=[64, 32], layers=[1, 3])
    cfg = configuration(design.train_command, tmp_path)
    assert instantiate(cfg.optinc.design) == design
    recipe = "large" if scenario.combinations > LARGE else "margin"
    assert (cfg.choices.task, cfg.choices.onn_training) == ("train_onn", recipe)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_construction_is_of_the_scenario_that_its_command_names(
    scenario: Scenario, tmp_path: Path
) -> None:
    command = construct_onn_command(settings_of(scenario), folder="runs/at level=1")
    cfg = configuration(command, tmp_path)
    assert cfg.choices.task == "construct_onn"
    assert cfg.onn_training.folder == "runs/at level=1"
    assert instantiate(cfg.optinc.scenario) == scenario


def test_commands_read_as_they_always_have() -> None:
    settings = scenario_overrides(
        bits=8, servers=4, onn_inputs=4, rounding="floor", level=1, keeps_decimal=True
    )
    assert construct_onn_command(settings, folder="FOLDER/NAME") == (
        "python run.py task=construct_onn optinc.bits=8 optinc.servers=16 "
        "optinc.preprocessing.inputs=4 optinc/topology=cascade optinc.topology.fan_in=4 "
        "optinc.topology.depth=2 optinc.topology.level=1 onn_training.folder=FOLDER/NAME"
    )
    overrides = train_onn_overrides(
        ["optinc.bits=8"], hidden=[64, 32], approximated_layers=[], recipe="large"
    )
    assert run_command(overrides) == (
        "python run.py task=train_onn onn_training=large optinc.bits=8 "
        "'optinc.mesh.hidden=[64,32]' 'optinc.approximation.layers=[]'"
    )


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("run.py", "python run.py"),
        ("/home/me/optinc/run.py", "python run.py"),
        ("/venv/bin/optinc", "optinc"),
        ("Scripts/optinc.exe", "optinc"),
        ("/site-packages/optinc/__main__.py", "python -m optinc"),
        ("/venv/bin/pytest", "python run.py"),
        ("", "python run.py"),
    ],
)
def test_commands_are_those_of_the_program_that_was_started(
    started: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert run_command(["task=train", "onn=a b"]) == f"{expected} task=train 'onn=a b'"


@pytest.mark.parametrize(
    "words", [["--config-dir", "my conf"], ["--config-dir=my conf"], ["-cd", "my conf"]]
)
def test_a_configuration_of_the_users_own_is_named_again(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", *words, "seed=1"])
    told = ["python", "run.py", *words, "resume=auto"]
    assert shlex.split(run_command(["resume=auto"])) == told
    monkeypatch.setattr(sys, "argv", ["run.py", "seed=1"])
    assert run_command(["resume=auto"]) == "python run.py resume=auto"


def test_without_a_checkout_the_installed_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["jupyter"])
    monkeypatch.setattr(commands, "PACKAGE", tmp_path / "optinc")
    assert commands.program() == "optinc"


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        (Path("runs/a-1/last.ckpt"), "ckpt_path=runs/a-1/last.ckpt"),
        ("runs/step=3.ckpt", 'ckpt_path="runs/step=3.ckpt"'),
        ("null", 'ckpt_path="null"'),
        ("é/last.ckpt", 'ckpt_path="é/last.ckpt"'),
    ],
)
def test_paths_are_in_quotes_where_needed(path: Path | str, typed: str) -> None:
    assert path_override("ckpt_path", path) == typed


@given(st.lists(st.sampled_from([*"ab1/=\\\"' $,:[]}é", "${"]), min_size=1).map("".join))
def test_every_path_is_read_as_it_is(path: str) -> None:
    (typed,) = arguments(run_command([path_override("ckpt_path", path)]))
    value = OverridesParser.create().parse_override(typed).value()
    assert OmegaConf.create({"ckpt_path": value}).ckpt_path == path
