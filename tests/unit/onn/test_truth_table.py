from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from optinc.errors import ConfigurationError
from optinc.onn import truth_table, zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.onn.network import OpticalNetwork
from optinc.onn.truth_table import TruthTable, ideal_codes, tabulate
from optinc.signal import outputs, pam4


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


def codes_of(onn: ONNArtifact, folder: Path) -> tuple[Path, torch.Tensor]:
    """Return the path of a cached table and its codes."""
    codes = TruthTable.of(onn, cache=folder).codes
    return folder / f"{onn.card.weights_sha256}.safetensors", codes.clone()


def test_a_cached_table_that_claims_to_be_right_is_found_out(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, codes = codes_of(small_onn, tmp_path)
    truth_table._write(path, ideal_codes(small_onn.card.scenario))  # with its true hash
    table = TruthTable.of(small_onn, cache=tmp_path)
    assert "contradicts the ONN's card" in caplog.text
    assert torch.equal(table.codes, codes)
    assert table.wrong_inputs == small_onn.card.wrong_inputs
    caplog.clear()
    TruthTable.of(small_onn, cache=tmp_path)
    assert not caplog.text


def test_a_cached_table_of_an_older_version_or_with_another_hash_is_made_anew(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, codes = codes_of(small_onn, tmp_path)
    safetensors.torch.save_file({"codes": codes, "wrong_inputs": torch.tensor(0)}, path)
    assert torch.equal(TruthTable.of(small_onn, cache=tmp_path).codes, codes)
    assert "fails the check of its SHA-256" in caplog.text
    caplog.clear()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert torch.equal(TruthTable.of(small_onn, cache=tmp_path).codes, codes)
    assert "fails the check of its SHA-256" in caplog.text


def test_a_card_that_contradicts_the_network_is_not_believed(
    small_onn: ONNArtifact, caplog: pytest.LogCaptureFixture
) -> None:
    lying = replace(small_onn, card=replace(small_onn.card, wrong_inputs=0, error_values={}))
    assert TruthTable.of(lying).wrong_inputs == small_onn.card.wrong_inputs
    assert "but its card says 0" in caplog.text


def test_without_a_usable_folder_there_is_no_cache_and_one_warning(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        table = TruthTable.of(small_onn, cache=tmp_path / "file" / "cache")
    assert table.wrong_inputs == small_onn.card.wrong_inputs
    assert caplog.text.count("cannot be used") == 1


def test_a_disk_that_fills_up_costs_the_cache_only(
    small_onn: ONNArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(truth_table, "write_atomically", fail)
    assert TruthTable.of(small_onn, cache=tmp_path).wrong_inputs == small_onn.card.wrong_inputs
    assert "No space left" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "b8_n2_half_even_all_layers",
        "b8_n4_floor_smallest",
        "b8_n4_half_up_smallest",
        "b8_n4_level1_decimal_smallest",
        "b8_n4_level2_half_even_smallest",
        "b8_n4_level2_decimal_smallest",
    ],
)
def test_ideal_codes_are_the_targets_of_all_inputs(name: str) -> None:
    scenario = zoo.load_named(name).card.scenario
    _, symbols = samples_of_index(torch.arange(scenario.combinations), scenario)
    targets = outputs.value_of_outputs(symbols, scenario)
    assert torch.equal(ideal_codes(scenario).long(), targets.long())


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat 49 inputs as many, and save after every batch of them."""
    monkeypatch.setattr(truth_table, "MANY", 48)
    monkeypatch.setattr(truth_table, "BATCH_SIZE", 10)
    monkeypatch.setattr(truth_table, "SECONDS_BETWEEN_SAVES", 0.0)


@pytest.mark.usefixtures("large")
def test_a_long_tabulation_is_logged_and_goes_on_where_it_was_interrupted(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = TruthTable.of(small_onn).codes
    batches: list[int] = []

    def stop(network: OpticalNetwork, inputs: tuple[torch.Tensor], _: Any) -> None:
        batches.append(len(inputs[0]))
        if len(batches) == 3:
            raise KeyboardInterrupt

    hook = small_onn.network.register_forward_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            TruthTable.of(small_onn, cache=tmp_path)
        with caplog.at_level(logging.INFO):
            table = TruthTable.of(small_onn, cache=tmp_path)
    finally:
        hook.remove()
    assert batches == [10, 10, 10, 10, 10, 9]  # the third one twice
    assert torch.equal(table.codes, expected)
    for line in ("tabulating 29 of the ONN's 49", "tabulated 61 %", "tabulated the ONN's 49"):
        assert line in caplog.text
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_a_shipped_onn_of_16_bits_is_right_without_tabulating_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(truth_table, "tabulate", None)
    onn = zoo.load_named("b16_n4_half_even_smallest")
    table = TruthTable.of(onn)
    assert table.wrong_inputs == 0
    index = torch.tensor([0, 7_654_321, onn.card.exhaustive_inputs - 1])
    averages, _ = samples_of_index(index, onn.card.scenario)
    assert torch.equal(table.codes[index], pam4.decode(pam4.receive(onn.network(averages))))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("claim", ["own", "damaged", "near"])
def test_only_a_shipped_onn_whose_sample_is_right_is_believed(
    small_onn: ONNArtifact, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"wrong_inputs": 0, "error_values": {}, "smallest_margin": 0.2}
    if claim == "near":
        right["smallest_margin"] = 0.0005
    lying = replace(small_onn, card=replace(small_onn.card, **right))
    if claim != "own":
        monkeypatch.setattr(zoo, "is_shipped", lambda card: True)
    assert TruthTable.of(lying).wrong_inputs == small_onn.card.wrong_inputs


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
