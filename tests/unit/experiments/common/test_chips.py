from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate

from experiments.common import chips
from optinc.errors import ConfigurationError
from tests.hydra_jobs import composed


def test_presets_are_those_that_hydra_composes(tmp_path: Path) -> None:
    assert "silicon" in chips.names()
    assert "ideal" not in chips.names()
    for name in chips.names():
        cfg = composed(tmp_path, f"optinc/chip={name}")
        assert chips.preset(name) == instantiate(cfg.optinc.chip)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc/chip=glass is no preset.*silicon"):
        chips.preset("glass")
