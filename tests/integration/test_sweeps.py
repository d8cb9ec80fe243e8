from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from optinc.tasks.config import validate, validate_training
from optinc.tasks.main import CONF
from tests.hydra_jobs import TINY, command, composed

ROOT = Path(__file__).parent.parent.parent
SWEEPS = ROOT / "sweeps"
WANDB = sorted(SWEEPS.glob("*.yaml"))
HYDRA = {"bits_joblib": "joblib", "bits_slurm": "submitit"}


def needs(launcher: str) -> None:
    pytest.importorskip(
        f"hydra_plugins.hydra_{launcher}_launcher", reason="needs the extra sweep: .[sweep]"
    )


def combinations(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """All runs of a grid, as W&B hands them to an agent."""
    values = [spec["values"] for spec in sweep["parameters"].values()]
    return [
        {key: {"value": value} for key, value in zip(sweep["parameters"], choice, strict=True)}
        for choice in itertools.product(*values)
    ]


def rendered(sweep: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    """The command that W&B's agent would start."""
    from wandb.sdk.launch.sweeps import utils  # noqa: PLC0415

    macros = utils.create_sweep_command_args({"args": arguments})
    macros |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    command: list[str] = []
    for part in utils.create_sweep_command(sweep["command"]):
        whole = part.startswith("${") and part.endswith("}")
        command += macros[part[2:-1]] if whole else [part]
    return command


@pytest.mark.parametrize("path", WANDB, ids=lambda path: path.stem)
def test_every_command_of_a_wandb_sweep_is_legal(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3")
    sweep = yaml.safe_load(path.read_text())
    assert set(sweep) == {"name", "program", "method", "metric", "parameters", "command"}
    assert sweep["method"] == "grid"
    assert sweep["metric"] == {"name": "val_loss", "goal": "minimize"}
    runs = combinations(sweep)
    assert len(runs) >= 12
    for arguments in runs:
        environment, python, program, *overrides = rendered(sweep, arguments)
        assert (environment, python) == ("/usr/bin/env", "python")
        assert (ROOT / program).is_file()
        cfg = composed(tmp_path, *overrides)
        validate(cfg)
        validate_training(cfg)
        for key, spec in arguments.items():
            assert cfg_value(cfg, key) == spec["value"]
        assert cfg.logger.wandb.group == "bits"


def cfg_value(cfg: Any, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def test_there_is_a_sweep_for_wandb_and_for_every_launcher() -> None:
    assert WANDB
    assert {path.stem for path in (SWEEPS / "experiment").glob("*.yaml")} == set(HYDRA)


@pytest.mark.parametrize("experiment", HYDRA)
def test_a_sweep_names_its_launcher_and_legal_values(experiment: str, tmp_path: Path) -> None:
    needs(HYDRA[experiment])
    search = f"hydra.searchpath=[file://{SWEEPS}]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "config", overrides=[search, f"experiment={experiment}"], return_hydra_config=True
        )
    assert HYDRA[experiment] in cfg.hydra.launcher._target_
    # What our own conf/hydra sets is still there.
    assert cfg.hydra.callbacks.output_folder._target_ == "optinc.runs.output_folder.OutputFolder"
    parser = OverridesParser.create()
    swept = [
        parser.parse_override(f"{key}={values}") for key, values in cfg.hydra.sweeper.params.items()
    ]
    choices = [list(override.sweep_string_iterator()) for override in swept]
    assert len(list(itertools.product(*choices))) == 9
    for values in itertools.product(*choices):
        overrides = [
            f"{override.key_or_group}={value}"
            for override, value in zip(swept, values, strict=True)
        ]
        validate(composed(tmp_path, search, f"experiment={experiment}", *overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("bits_joblib", []),
        ("bits_slurm", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]),
    ],
)
def test_launchers_run_two_jobs(experiment: str, overrides: list[str], tmp_path: Path) -> None:
    needs(HYDRA[experiment])
    arguments = ["-m", "--config-dir", str(SWEEPS), f"experiment={experiment}", *overrides]
    tiny = [override for override in TINY if not override.startswith("model=")]
    arguments += [*tiny, "trainer.max_steps=2", "optinc.bits=4,8", "seed=1"]
    assert command(*arguments, f"hydra.sweep.dir={tmp_path}") == 0
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")]
    assert {(summary["bits"], summary["seed"]) for summary in summaries} == {(4, 1), (8, 1)}
    assert {summary["model"] for summary in summaries} == {"llama_tiny"}
