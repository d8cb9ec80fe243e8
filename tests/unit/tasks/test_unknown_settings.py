from __future__ import annotations

from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.tasks.schema import Config
from optinc.tasks.unknown_settings import check_settings
from tests.hydra_jobs import composed


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("+optinc.bit=4", "did you mean optinc.bits?"),
        ("+sed=4", "did you mean seed?"),
        ("+trainer.max_step=3", "did you mean trainer.max_steps?"),
        ("+data.batchsize=3", "did you mean data.batch_size?"),
        ("+optinc.mesh.width=3", "legal are optinc.mesh.hidden"),
        ("+optinc.topology.fan_in=3", "legal are optinc.topology.ideal"),
        ("+optinc.scenario.x=1", "unknown setting optinc.scenario.x"),
        ("+reducer.server=3", "did you mean reducer.servers?"),
        ("+reducer.quantizer.bitz=3", "did you mean reducer.quantizer.bits?"),
        ("+model.optimizer.lrr=3", "did you mean model.optimizer.lr?"),
        ("+model.scheduler.max=3", "did you mean model.scheduler.max_lr?"),
        ("+paths.cach=3", "did you mean paths.cache_dir?"),
        ("+callbacks.checkpoint.monitr=3", "did you mean callbacks.checkpoint.monitor?"),
        ("+callbacks.chekpoint.monitor=3", "did you mean callbacks.checkpoint?"),
        ("+logger.csv.nam=3", "did you mean logger.csv.name?"),
        ("+onn_training.batchsize=3", "did you mean onn_training.batch_size?"),
        ("+search.width=3", "did you mean search.widths?"),
        ("+task.x=1", "unknown setting task.x"),
        ("+cascade_tuning.module.x=1", "legal are cascade_tuning.module."),
        ("+a.b=1", "unknown setting a"),
        ("model._target_=no.such.Model", "model._target_=no.such.Model is not found"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_legal_one(
    override: str, nearest: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(composed(tmp_path, override), Config)
    assert nearest in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        # An argument that the shipped option leaves at its default.
        ["+trainer.max_time=00:00:10:00"],
        ["+model.optimizer.maximize=true"],
        ["strategy=ddp", "+strategy.bucket_cap_mb=1", "+strategy.static_graph=true"],
        ["logger=wandb", "+logger.wandb.notes=x"],
        ["+callbacks.mine._target_=pytorch_lightning.callbacks.RichModelSummary"],
        ["callbacks.learning_rate=null"],
        # A name of the user's own that another setting refers to.
        ["+width=8", "data.batch_size=${width}"],
    ],
)
def test_what_something_reads_is_legal(overrides: list[str], tmp_path: Path) -> None:
    check_settings(composed(tmp_path, *overrides), Config)


def test_only_some_settings_are_checked_where_asked_for(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "+sed=4", "+onnx=1")
    with pytest.raises(ConfigurationError, match="sed") as caught:
        check_settings(cfg, Config, only=["sed"])
    assert "onnx" not in str(caught.value)
    check_settings(cfg, Config, only=["seed"])
