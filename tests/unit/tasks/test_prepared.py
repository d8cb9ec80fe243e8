from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optinc.errors import ConfigurationError
from optinc.tasks.main import CONF, run
from optinc.tasks.prepared import (
    as_hydra_takes_them,
    chosen,
    prepare,
    refuse_dotted_groups,
    refuse_words_for_groups,
)
from tests.hydra_jobs import TINY, composed


def in_notebook(*overrides: str) -> DictConfig:
    """Compose without starting a job of Hydra."""
    HydraConfig.instance().cfg = None
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_a_configuration_composed_in_a_notebook_runs(tmp_path: Path) -> None:
    short = ["trainer.max_steps=1", "trainer.limit_val_batches=1", "data.sequence_length=16"]
    quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
    model = ["model=llama_tiny", "trainer.accelerator=cpu"]
    cfg = in_notebook(*model, *short, *quiet, f"paths.output_dir={tmp_path}")
    summary, _ = run(cfg)
    chosen_options = [summary[key] for key in ("model", "data", "reducer", "strategy")]
    assert chosen_options == ["llama_tiny", "pydocs", "optinc", "virtual_servers"]


def test_without_a_job_the_output_folder_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match=r"for example paths\.output_dir=runs/notebook"):
        run(in_notebook(*TINY))


@pytest.mark.parametrize(
    ("group", "option"),
    [
        ("model", "resnet18"),
        ("model", "llama"),
        ("reducer", "bf16"),
        ("reducer", "mixed_bits"),
        ("reducer", "thc"),
        ("strategy", "ddp"),
        ("optinc/topology", "cascade"),
        ("task", "construct_onn"),
        ("logger", "wandb"),
    ],
)
def test_choices_are_found_by_what_was_composed(group: str, option: str) -> None:
    assert chosen(in_notebook(f"{group}={option}"))[group] == option


def test_paths_are_given_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    cfg = prepare(
        composed(
            tmp_path,
            *("data=cifar100", "data.root='$DATA/cifar'", "ckpt_path='~/a/last.ckpt'"),
            *("paths.cache_dir='${oc.env:DATA}/cache'", "runs=['~/a','$DATA/b']", "onn=smallest"),
        )
    )
    assert cfg.data.root == "/data/cifar"
    assert cfg.ckpt_path == "/home/me/a/last.ckpt"
    assert cfg.paths.cache_dir == "/data/cache"
    assert list(cfg.runs) == ["/home/me/a", "/data/b"]
    assert cfg.onn == "smallest"


def test_what_hydra_refuses_is_written_as_it_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["logger=null", "model/scheduler=null", "data.root=~/x", "runs=$HOME/y"]
    expected = ["~logger", "~model/scheduler", "data.root=/home/me/x", "runs=/home/me/y"]
    assert as_hydra_takes_them(given) == expected
    same = ["onn=null", "-m", "~logger", "seed=1,2", "data.batch_size=${seed}", "a=null"]
    assert as_hydra_takes_them(same) == same


def test_an_option_behind_a_dot_is_refused_with_the_right_spelling(tmp_path: Path) -> None:
    for text in ("optinc.topology=cascade", "+optinc.mesh=small", "model.scheduler=one_cycle"):
        with pytest.raises(ConfigurationError) as caught:
            refuse_dotted_groups([text])
        name, _, option = text.lstrip("+").partition("=")
        assert str(caught.value).endswith(f"chosen by {name.replace('.', '/')}={option}")
    refuse_dotted_groups(["model.scheduler=null", "optinc.mesh={hidden: [3]}", "optinc.bits=4"])
    with pytest.raises(ConfigurationError, match="optinc/topology=cascade"):
        refuse_words_for_groups(composed(tmp_path, "optinc.topology=cascade"))


def test_groups_taken_away_are_empty(tmp_path: Path) -> None:
    cfg = prepare(composed(tmp_path, "~logger", "~callbacks", "~model/scheduler"))
    assert (cfg.logger, cfg.callbacks, cfg.model.scheduler) == (None, None, None)
