"""Modules that nobody wrote for OptINC train alike under both strategies, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.forks import forked
from tests.integration.foreign_modules import CASES, SERVERS, results

REFUSED = {
    "virtual": {"gan": "automatic_optimization", "contrastive": "all_gather"},
    "ddp": {},
}
"""Modules that a strategy refuses, and the name that the error holds."""


class Trained(NamedTuple):
    """Weights by case and name, and refusals by case, of both ranks and of virtual servers."""

    weights: dict[str, dict[str, Tensor]]
    refusals: dict[str, dict[str, str]]

    def case(self, name: str, mode: str) -> dict[str, Tensor]:
        return {k: v for k, v in self.weights[mode].items() if k.startswith(f"{name}.")}


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder: Path = tmp_path_factory.mktemp("foreign")
    forked(SERVERS, "tests.integration.foreign_modules", str(folder))
    weights, refusals = results("virtual")
    found = Trained({"virtual": weights}, {"virtual": refusals})
    for rank in map(str, range(SERVERS)):
        found.weights[rank] = safetensors.torch.load_file(folder / f"{rank}.safetensors")
        found.refusals[rank] = json.loads((folder / f"{rank}.json").read_text())
    return found


def refused(mode: str) -> dict[str, str]:
    return REFUSED["virtual" if mode == "virtual" else "ddp"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["virtual", "0", "1"])
def test_what_cannot_be_trained_is_refused_by_name(trained: Trained, mode: str) -> None:
    assert set(trained.refusals[mode]) == set(refused(mode))
    for case, name in refused(mode).items():
        assert name in trained.refusals[mode][case]


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(set(CASES) - set(REFUSED["ddp"])))
def test_the_servers_end_with_equal_weights(trained: Trained, case: str) -> None:
    first, second = trained.case(case, "0"), trained.case(case, "1")
    assert first
    # Statistics of BatchNorm are rank 0's at the begin of every step only.
    for name, value in first.items():
        if "running" not in name:
            assert torch.equal(value, second[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(set(CASES) - set(REFUSED["virtual"])))
def test_virtual_servers_end_with_the_weights_of_real_ones(trained: Trained, case: str) -> None:
    real, virtual = trained.case(case, "0"), trained.case(case, "virtual")
    assert real.keys() == virtual.keys()
    for name, value in real.items():
        assert torch.equal(value, virtual[name]), name
