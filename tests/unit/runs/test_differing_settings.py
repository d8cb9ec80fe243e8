from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from optinc.runs.differing_settings import changed_settings, differing_settings, labels
from optinc.runs.finished_runs import FinishedRun
from optinc.runs.stored_configuration import StoredConfiguration


def run(name: str, *, choices: dict[str, Any], config: dict[str, Any]) -> Any:
    stored = StoredConfiguration(OmegaConf.create(config), choices)
    return FinishedRun(Path(name), {}, stored)


def llama(name: str, layers: int, rate: float) -> Any:
    return run(
        name,
        choices={"model": "llama", "model/scheduler": "cosine", "hydra/launcher": name},
        config={"model": {"layers": layers, "scheduler": {"warmup": 0.1}}, "rate": rate},
    )


RESNET = run(
    "resnet",
    choices={"model": "resnet", "model/scheduler": "one_cycle", "hydra/launcher": "x"},
    config={"model": {"depth": 18, "scheduler": {"peak": 1}}, "rate": 0.5},
)


def test_values_below_a_group_that_differs_follow_from_it() -> None:
    found = differing_settings([llama("a", 2, 0.5), RESNET])
    assert found == [{"model": "llama"}, {"model": "resnet"}]


def test_values_that_differ_within_one_option_are_kept() -> None:
    found = differing_settings([llama("a", 2, 0.5), llama("b", 4, 0.5), RESNET])
    assert found == [
        {"model": "llama", "model.layers": "2"},
        {"model": "llama", "model.layers": "4"},
        {"model": "resnet", "model.layers": "-"},
    ]


def test_nested_options_are_kept_where_those_above_are_the_same() -> None:
    other = llama("b", 2, 0.5)
    other.stored.choices["model/scheduler"] = "one_cycle"
    found = differing_settings([llama("a", 2, 0.5), other])
    assert found == [{"model/scheduler": "cosine"}, {"model/scheduler": "one_cycle"}]


def test_lists_null_and_truth_are_written_as_they_are_typed() -> None:
    values = [{"x": [1, 2], "y": None, "z": True, "e": {}}, {"x": [1], "y": 0, "z": False, "e": 1}]
    found = differing_settings([run("r", choices={}, config=value) for value in values])
    assert found[0] == {"x": "[1, 2]", "y": "null", "z": "true", "e": "{}"}
    assert found[1] == {"x": "[1]", "y": "0", "z": "false", "e": "1"}


def test_where_and_how_a_run_is_logged_is_no_setting() -> None:
    configs = [
        {"paths": {"output_dir": name}, "logger": {"wandb": {"name": name}}, "runs": [name]}
        for name in ("a", "b")
    ]
    runs = [run("r", choices={"logger": c["runs"][0]}, config=c) for c in configs]  # type: ignore[index]
    assert differing_settings(runs) == [{}, {}]


def test_labels_say_what_differs_and_are_never_the_same() -> None:
    runs = [llama("a", 2, 0.5), llama("b", 2, 0.1), llama("c", 2, 0.5)]
    assert labels(runs, differing_settings(runs)) == ["rate=0.5 (a)", "rate=0.1", "rate=0.5 (c)"]
    assert labels(runs[:1], [{}]) == ["(a)"]


def test_classes_of_ours_that_moved_do_not_tell_runs_apart() -> None:
    before = {"sizes": {"inputs": "${a.b}"}, "switch": "optinc.switch.IdealSwitch", "seed": 1}
    after = {"sizes": {"onn_inputs": "${a.b}"}, "seed": 2}
    after["switch"] = "optinc.switches.single.IdealSwitch"
    found = differing_settings([run("r", choices={}, config=value) for value in (before, after)])
    assert found == [{"seed": "1"}, {"seed": "2"}]


def test_another_class_or_value_in_place_of_a_reference_tells_runs_apart() -> None:
    before = {"switch": "optinc.switch.IdealSwitch", "optimizer": "torch.optim.SGD", "x": "${y}"}
    after = {"switch": "optinc.switch.TableSwitch", "optimizer": "torch.optim.AdamW", "x": 3}
    found = differing_settings([run("r", choices={}, config=value) for value in (before, after)])
    assert found[0] == {"switch": "IdealSwitch", "optimizer": "torch.optim.SGD", "x": "${y}"}
    assert found[1] == {"switch": "TableSwitch", "optimizer": "torch.optim.AdamW", "x": "3"}


def test_an_argument_that_an_older_version_lacks_had_its_default() -> None:
    older = {"scenario._target_": "optinc.signal.scenario.make_scenario", "scenario.bits": 8}
    newer = older | {"scenario.downlink": "quantised"}
    assert changed_settings(older, newer) == changed_settings(newer, older) == []
    decimal = older | {"scenario.downlink": "decimal"}
    assert changed_settings(older, decimal) == ["scenario.downlink=decimal (before: quantised)"]
    # One without a default cannot have been left out.
    given = older | {"scenario.servers": 4}
    assert changed_settings(older, given) == ["scenario.servers=4 (before: -)"]


def test_a_run_that_went_on_from_its_own_checkpoint_is_no_other_one() -> None:
    plain = {"resume": "requeue", "resume_changed": False, "ckpt_path": None, "rate": 0.5}
    resumed = {"resume": "auto", "resume_changed": True, "ckpt_path": "b/checkpoints/last.ckpt"}
    runs = [
        run("a", choices={}, config=plain),
        run("b", choices={}, config={**plain, **resumed}),
        run("c", choices={}, config={**plain, "ckpt_path": "b/checkpoints/last.ckpt"}),
    ]
    assert differing_settings(runs[:2]) == [{}, {}]
    assert differing_settings(runs)[2] == {"ckpt_path": "b/checkpoints/last.ckpt"}
