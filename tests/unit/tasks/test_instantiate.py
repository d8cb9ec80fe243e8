from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import InstantiationException

from optinc.errors import ConfigurationError, OptINCError
from optinc.tasks.instantiate import instantiate


def test_objects_take_arguments_of_the_call() -> None:
    assert instantiate({"_target_": "pathlib.Path"}, "a", "b") == Path("a/b")


def test_an_error_of_ours_comes_as_it_was_raised_from_any_depth() -> None:
    scenario = {
        "_target_": "optinc.signal.scenario.make_scenario",
        "bits": 7,
        "servers": 4,
        "onn_inputs": 4,
        "rounding": "floor",
    }
    design = {"_target_": "optinc.onn.design.ONNDesign.from_settings", "scenario": scenario}
    with pytest.raises(ConfigurationError, match=r"optinc\.bits must be even") as caught:
        instantiate({**design, "hidden": [4], "layers": "none"})
    assert caught.value.__cause__ is None


def test_any_other_error_stays_hydra_s() -> None:
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": "math.sqrt"}, "x")
    assert not isinstance(caught.value, OptINCError)
