from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.common import chips
from experiments.common.runs import ROOT
from optinc.errors import ConfigurationError


def test_presets_are_those_that_hydra_composes() -> None:
    assert "silicon" in chips.names()
    assert "ideal" not in chips.names()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        for name in chips.names():
            composed = compose("config", overrides=[f"optinc/chip={name}"])
            assert chips.preset(name) == instantiate(composed.optinc.chip)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc/chip=glass is no preset.*silicon"):
        chips.preset("glass")
