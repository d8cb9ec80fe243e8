"""Every option composes, and illegal settings are refused before anything is written.

Covers: optinc.tasks.config, optinc.tasks.model_and_data
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from optinc.errors import OptINCError
from optinc.runs.differing_settings import changed_settings, training_settings
from optinc.tasks.main import CONF, run
from optinc.tasks.schema import Config
from optinc.tasks.unknown_settings import unknown_settings
from tests.hydra_jobs import composed

GROUPS = sorted(
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in CONF.glob("*/**/*.yaml")
    if path.parent.name not in ("hydra", "paths") and path.stem != "base"
)
ALLOWED = ("optinc.", "torch.", "torchvision.", "pytorch_lightning.", "transformers.")


def nodes(cfg: Any) -> list[DictConfig]:
    """All nodes that name something to call."""
    found = []
    if isinstance(cfg, DictConfig):
        if "_target_" in cfg:
            found.append(cfg)
        for key in cfg:
            if not OmegaConf.is_missing(cfg, key):
                found += nodes(cfg[key])
    return found


@pytest.mark.parametrize("choice", GROUPS)
def test_every_choice_composes_and_has_real_arguments_alone(choice: str, tmp_path: Path) -> None:
    cfg = composed(tmp_path, choice)
    assert unknown_settings(cfg, Config) == []
    for node in nodes(cfg):
        assert node._target_.startswith(ALLOWED)
        target = hydra.utils.get_object(node._target_)
        if str(choice).startswith("task"):
            continue
        parameters = inspect.signature(target).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        keys = {str(key) for key in node if not str(key).startswith("_")}
        assert keys <= set(parameters), (node._target_, keys - set(parameters))


def test_there_is_something_to_check() -> None:
    assert len(GROUPS) > 25
    assert "optinc/fidelity=table" in GROUPS


@pytest.mark.parametrize(
    "override", ["optinc.bit=4", "trainer.max_step=3", "optinc.mesh.width=3", "data.batchsize=3"]
)
def test_typos_are_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        composed(tmp_path, override)


def test_scales_of_other_bytes_are_another_training_and_float32_the_one_from_before(
    tmp_path: Path,
) -> None:
    now = training_settings(composed(tmp_path))
    before = {name: value for name, value in now.items() if "scale_dtype" not in name}
    assert len(before) == len(now) - 2
    assert changed_settings(before, now) == []
    short = training_settings(composed(tmp_path, "optinc.quantization.scale_dtype=bfloat16"))
    named = ["reducer.quantizer.scale_dtype=bfloat16 (before: float32)"]
    assert changed_settings(before, short) == changed_settings(now, short) == named


def test_texts_of_another_folder_are_another_training(tmp_path: Path) -> None:
    now, other = (
        training_settings(composed(tmp_path, "model=llama", "data=text", f"data.root={root}"))
        for root in (tmp_path / "a", tmp_path / "b")
    )
    named = [f"data.root={tmp_path}/b (before: {tmp_path}/a)"]
    assert changed_settings(now, other) == named
    around = f"data.root={tmp_path}/b/../a"
    same = training_settings(composed(tmp_path, "model=llama", "data=text", around))
    assert changed_settings(now, same) == []
    # Checkpoints of before do not tell theirs.
    assert changed_settings({k: v for k, v in now.items() if k != "data.root"}, other) == []


@pytest.mark.parametrize("override", ["optinc.bits=eight", "seed=x", "optinc.servers=2.5"])
def test_wrong_types_are_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigCompositionException, match="Error merging override"):
        composed(tmp_path, override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optinc.bits=7"], "optinc.bits must be even, 2 to 16"),
        (["optinc.bits=18"], "optinc.bits must be even, 2 to 16"),
        (["optinc.bits=7", "reducer=ring"], "optinc.bits must be even, 2 to 16"),
        (["optinc.servers=0"], "optinc.servers must be at least 1"),
        (["optinc.preprocessing.inputs=3"], r"optinc.preprocessing.inputs=3 .* \[1, 2, 4\]"),
        (["optinc.rounding=up"], r"optinc.rounding must be floor \| half_up \| half_even"),
        (["optinc.downlink=sum"], r"optinc.downlink must be quantised \| decimal, got 'sum'"),
        (
            ["optinc.downlink=decimal", "optinc.servers=8"],
            r"run.py task=train_onn .*optinc.bits=8 optinc.servers=8 optinc.downlink=decimal",
        ),
        (
            ["optinc.downlink=decimal", "onn=b8_n4_half_even_dense"],
            r"serves another scenario .*rounding=half_even.* requested .*downlink=decimal",
        ),
        (["optinc.quantization.nonfinite=ignore"], "optinc.quantization.nonfinite must be"),
        (["optinc.quantization.rounding=up"], r"half_up \| half_even \| stochastic, got 'up'"),
        (["optinc.rounding=stochastic"], r"optinc.rounding must be floor \| half_up \| half_even"),
        (["optinc.quantization.rotation=qr"], r"rotation must be none \| hadamard, got 'qr'"),
        (["optinc.quantization.clip=0"], "optinc.quantization.clip must be null or above 0"),
        (
            ["optinc.quantization.rotation=hadamard", "optinc.quantization.block_size=100"],
            "needs optinc.quantization.block_size to be a power of two",
        ),
        (
            ["optinc.quantization.error_feedback=true", "reducer=int8_blocks"],
            "error_feedback=True is read by .* mixed_bits, not by reducer=int8_blocks",
        ),
        (["optinc.quantization.clip=1.2", "reducer=ring"], "clip=1.2 is read by reducer=optinc"),
        (
            ["optinc.quantization.rounding=stochastic", "reducer=thc"],
            "rounding=stochastic is read by reducer=optinc, mixed_bits and int8_blocks",
        ),
        (
            ["optinc.quantization.scale_dtype=bfloat16", "reducer=qsgd"],
            "scale_dtype=bfloat16 is read by reducer=optinc, mixed_bits and int8_blocks",
        ),
        (
            ["optinc.quantization.scale_dtype=float16"],
            r"optinc.quantization.scale_dtype must be float32 \| bfloat16, got 'float16'",
        ),
        (["reducer=thc", "reducer.bits=9"], "reducer.bits must be 1 to 8, got 9"),
        (
            ["reducer=mixed_bits", "optinc/fidelity=ideal", "reducer.fine.quantizer.bits=8"],
            "reducer.fine.quantizer.bits must be more than optinc.bits=8, got 8",
        ),
        (["optinc.servers=5"], r"python run.py task=train_onn optinc.bits=8 optinc.servers=5"),
        (
            ["task=train_onn", "optinc.bits=16", "optinc.servers=16", "optinc/mesh=small"],
            "has 3373402561 of them; at most 2147483647 are legal",
        ),
        (["task=train_onn", "optinc.servers=5"], "optinc.mesh.hidden=table1, but Table I has no"),
        (
            ["optinc.servers=5", "optinc/mesh=small"],
            r"python run.py task=train_onn optinc.bits=8 optinc.servers=5",
        ),
        (["optinc.servers=8", "optinc.approximation.layers=[3]"], "no trained ONN is shipped for"),
        (
            ["optinc.servers=8", "onn=b8_n4_half_even_dense"],
            r"serves another scenario .*servers=4.* requested .*servers=8",
        ),
        (["data.batch_size=3"], "data.batch_size=3 must be at least the number of servers, 4"),
        (["trainer.devices=2"], "trainer.devices and trainer.num_nodes must be 1, got 2 and 1"),
        (
            ["callbacks=signal_statistics", "callbacks.signal_statistics.every_n_steps=0"],
            "callbacks.signal_statistics.every_n_steps must be an integer of at least 1, got 0",
        ),
        (
            ["callbacks=signal_statistics", "callbacks.signal_statistics.depth=0"],
            "callbacks.signal_statistics.depth must be an integer of at least 1, got 0",
        ),
        (["trainer.max_epochs=-1"], "one of trainer.max_epochs and trainer.max_steps"),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path=nowhere.ckpt is not a file"),
        (["data=text"], "data.root must be given"),
        (["data=cifar100"], "data.root must be given"),
        (["data=pydocs"], r"model=resnet50 takes images \(data=digits, cifar100\)"),
        (
            ["model=llama", "data=digits"],
            r"model=llama takes text \(data=pydocs, text, wikipedia\)",
        ),
        (["seed=-1"], "seed must be at least 0"),
        (["task=train_onn", "onn_training.projection_interval=0"], "projection_interval must be"),
        (["task=train_onn", "optinc.mesh.hidden=[0]"], "optinc.mesh.hidden must be a list"),
        (["task=train_onn", "optinc.approximation.layers=[9]"], "1-based layers within 1..6"),
    ],
)
def test_illegal_combinations_are_refused_by_name(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(OptINCError, match=message):
        run(composed(tmp_path, *overrides))
    assert not list(tmp_path.iterdir())


def test_a_missing_data_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(OptINCError, match=r"CIFAR-100 was looked for in .*nowhere"):
        run(composed(tmp_path, "data=cifar100", "data.root=nowhere"))


@pytest.mark.parametrize("data", ["pydocs", "text"])
def test_a_model_brings_its_default_data_and_the_command_line_wins(
    data: str, tmp_path: Path
) -> None:
    overrides = ["model=llama"] + ([f"data={data}", "data.root=x"] if data == "text" else [])
    cfg = composed(tmp_path, *overrides)
    assert cfg.choices.data == data
    assert cfg.choices.trainer == "steps"
