from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.onn.truth_table import TruthTable, tabulate
from optinc.signal import pam4


def test_the_table_holds_what_the_network_emits(small_onn: ONNArtifact) -> None:
    scenario = small_onn.card.scenario
    table = TruthTable.of(small_onn)
    averages, _ = samples_of_index(torch.arange(49), scenario)
    expected = pam4.decode(pam4.receive(small_onn.network(averages)))
    assert torch.equal(table.codes, expected)
    assert table.wrong_inputs == small_onn.card.wrong_inputs


def test_a_cached_table_is_read_back(small_onn: ONNArtifact, tmp_path: Path) -> None:
    made = TruthTable.of(small_onn, cache=tmp_path)
    path = tmp_path / f"{small_onn.card.weights_sha256}.safetensors"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    stamp = path.stat().st_mtime_ns
    read = TruthTable.of(small_onn, cache=tmp_path)
    assert path.stat().st_mtime_ns == stamp
    assert torch.equal(read.codes, made.codes)
    assert read.wrong_inputs == made.wrong_inputs


@pytest.mark.parametrize("damage", [b"", b"x" * 200])
def test_a_damaged_cache_is_made_anew(
    small_onn: ONNArtifact, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    made = TruthTable.of(small_onn, cache=tmp_path)
    path = next(tmp_path.iterdir())
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        again = TruthTable.of(small_onn, cache=tmp_path)
    assert "is damaged" in caplog.text
    assert torch.equal(again.codes, made.codes)
    assert path.read_bytes() != damage


def test_the_wrong_entries_are_counted(small_onn: ONNArtifact) -> None:
    scenario = replace(small_onn.card.scenario, rounding="floor")
    _, symbols = samples_of_index(torch.arange(49), scenario)
    table = tabulate(small_onn.network, scenario)
    assert table.wrong_inputs == int((table.codes != pam4.decode(symbols)).sum())


def test_what_cannot_be_tabulated_is_refused(small_onn: ONNArtifact) -> None:
    card = replace(
        small_onn.card, bits=16, servers=16, inputs=4, symbols=8, group=2, structure=(4, 8, 8)
    )
    with pytest.raises(ConfigurationError, match=r"optinc/fidelity=table cannot tabulate 337"):
        TruthTable.of(replace(small_onn, card=card))
