from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optinc.onn import outcome_table
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork
from optinc.onn.outcome_table import OutcomeTable, repetitions_for, tabulate_outcomes
from optinc.onn.server_symbols import draw_codes
from optinc.onn.truth_table import TruthTable, ideal_codes
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario
from optinc.switches.chip import ChipSwitch

SCENARIO = Scenario(bits=2, servers=1, onn_inputs=1, rounding="half_even")


def counted(rows: list[dict[int, int]], repetitions: int) -> OutcomeTable:
    """The table of a switch of four inputs: for each, code -> how often it was received."""
    pairs = [(index << 2 | code, n) for index, row in enumerate(rows) for code, n in row.items()]
    keys, counts = torch.tensor(sorted(pairs)).unbind(-1)
    return OutcomeTable(SCENARIO, keys, counts, repetitions)


TABLE = counted([{0: 10}, {1: 7, 0: 2, 2: 1}, {1: 6, 2: 4}, {0: 5, 3: 5}], 10)


def test_the_most_frequent_code_and_the_others_by_falling_probability() -> None:
    assert TABLE.codes.tolist() == [0, 1, 1, 0]
    assert TABLE.deviations.tolist() == [0, 2, 2, 3]
    assert TABLE.rows.tolist() == [0, 0, 2, 3, 4]


def test_thresholds_are_probabilities_at_a_resolution_of_32_bits() -> None:
    exact = [0.2, 0.3, 0.4, 0.5]
    assert TABLE.thresholds.tolist() == [math.floor(share * 2**32) for share in exact]


def test_the_error_rate_is_the_mean_over_all_inputs() -> None:
    assert TABLE.wrong.tolist() == pytest.approx([0.0, 0.3, 0.6, 0.5])
    assert TABLE.error_rate == pytest.approx(0.35)
    variance = (0.3 * 0.7 + 0.6 * 0.4 + 0.5 * 0.5) / 10
    assert TABLE.standard_error == pytest.approx(variance**0.5 / 4)
    assert TABLE.wrong_inputs == 2


def test_no_wrong_code_among_all_is_not_a_rate_of_exactly_zero() -> None:
    table = counted([{code: 10} for code in range(4)], 10)
    assert (table.error_rate, table.standard_error) == (0.0, 1 / 40)
    assert counted([{code: 1} for code in range(4)], 1).standard_error == 0.0


def test_the_repetitions_keep_the_standard_error() -> None:
    assert repetitions_for(0.05) == 100
    assert repetitions_for(0.03) == 278
    assert repetitions_for(0.5) == 2


def drawn(onn: ONNArtifact, **settings: float) -> ChipNetwork:
    return ChipNetwork.draw(onn, ChipSettings(**settings))


def test_an_ideal_chip_has_the_truth_table_of_its_onn(small_onn: ONNArtifact) -> None:
    table = tabulate_outcomes(drawn(small_onn), repetitions=1)
    assert torch.equal(table.codes, TruthTable.of(small_onn).codes)
    assert len(table.deviations) == 0
    assert table.wrong_inputs == small_onn.card.wrong_inputs


NOISY = pytest.mark.parametrize(
    "effects", [{"noise": 0.1}, {"server_imbalance": 0.3, "level_error": 0.05, "noise": 0.1}]
)


@NOISY
def test_the_outcomes_are_distributed_like_those_of_the_chip_run_on_every_value(
    small_onn: ONNArtifact, effects: dict[str, float]
) -> None:
    chip, repetitions = drawn(small_onn, **effects), 600
    scenario = chip.scenario
    table = tabulate_outcomes(chip, repetitions=repetitions, seed=1)
    # Independent, uniform codes, as the table assumes of servers; every value by itself.
    generator = torch.Generator().manual_seed(2)
    codes_NP = torch.randint(0, 16, (2, 40_000), generator=generator, dtype=torch.int32)
    switch = ChipSwitch(chip, cards=(small_onn.card,), settings={}, seed=3)
    received = switch(codes_NP)
    index = preprocessing.index_of_code(scenario)[codes_NP].sum(0)
    cells = scenario.combinations * 16
    found = (index.long() << 4 | received).bincount(minlength=cells).double()
    other = torch.zeros(cells, dtype=torch.float64)
    other[table.keys] = table.counts.double()
    chi_square, freedom = two_samples(found.view(-1, 16), other.view(-1, 16))
    assert freedom > 50
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


def two_samples(one: Tensor, other: Tensor) -> tuple[float, int]:
    """Chi-square of two samples of each input [inputs, codes], with its degrees of freedom.

    Codes of an input that few samples have are counted together.
    """
    total, freedom = 0.0, 0
    for first, second in zip(one, other, strict=True):
        rare = first + second < 20
        cells = torch.stack([first, second])
        cells = torch.cat([cells[:, ~rare], cells[:, rare].sum(1, keepdim=True)], 1)
        cells = cells[:, cells.sum(0) > 0]
        expected = cells.sum(0) * cells.sum(1, keepdim=True) / cells.sum()
        # Approximate where a cell is expected to hold few.
        if cells.shape[1] > 1 and float(expected.min()) > 3:
            total += float(((cells - expected).square() / expected).sum())
            freedom += cells.shape[1] - 1
    return total, freedom


def test_servers_that_differ_make_outcomes_random_without_any_noise(
    small_onn: ONNArtifact,
) -> None:
    chip = drawn(small_onn, server_imbalance=0.3, level_error=0.1)
    assert chip.needs_servers
    assert not chip.dynamic
    table = tabulate_outcomes(chip, repetitions=50)
    # The largest sums leave the servers no choice.
    assert int(table.rows[-1]) > 0
    assert table.rows[-1] == table.rows[-2]
    sums = preprocessing.sums_of_index(torch.tensor([24]), chip.scenario)
    codes = draw_codes(sums.expand(500, -1), chip.scenario)
    possible = chip.receive(chip.emit(codes))[0].unique().tolist()
    found = table.keys[table.keys >> 4 == 24] & 15
    assert found.tolist() == possible


def test_a_kept_table_is_read_and_checked_against_the_chip(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chip.safetensors"
    made = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    stamp = path.stat().st_mtime_ns
    read = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    assert read.sha256 == made.sha256
    assert path.stat().st_mtime_ns == stamp
    with caplog.at_level(logging.WARNING):
        other = tabulate_outcomes(drawn(small_onn, noise=0.3), repetitions=20, path=path)
    assert "is not that of this chip" in caplog.text
    assert other.sha256 != made.sha256


def test_what_was_done_of_another_chip_is_not_gone_on_from(
    small_onn: ONNArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chip.safetensors"
    whole = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20)
    tabulate_outcomes(drawn(small_onn, noise=0.3), repetitions=20, path=path)
    path.rename(path.with_suffix(".partial"))
    with caplog.at_level(logging.WARNING):
        made = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    assert "is not that of this chip" in caplog.text
    assert made.sha256 == whole.sha256


@pytest.mark.parametrize("damage", [b"", b"x" * 200])
def test_a_damaged_table_is_made_anew(
    small_onn: ONNArtifact, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chip.safetensors"
    made = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        again = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    assert "is damaged" in caplog.text
    assert again.sha256 == made.sha256


class Interrupted(Exception):
    """What stops the tabulation."""


def test_an_interrupted_tabulation_goes_on_to_the_same_table(
    small_onn: ONNArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_table, "ROWS", 100)
    monkeypatch.setattr(outcome_table, "SECONDS_BETWEEN_SAVES", 0.0)
    whole = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20)
    send, sent = outcome_table._send, []

    def interrupted(*arguments: object) -> Tensor:
        sent.append(arguments)
        if len(sent) == 5:
            raise Interrupted
        return send(*arguments)  # type: ignore[arg-type]

    path = tmp_path / "chip.safetensors"
    monkeypatch.setattr(outcome_table, "_send", interrupted)
    with pytest.raises(Interrupted):
        tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    assert [each.suffix for each in tmp_path.iterdir()] == [".partial"]
    resumed = tabulate_outcomes(drawn(small_onn, noise=0.1), repetitions=20, path=path)
    # 49 inputs, five a batch: ten batches, of which four were done and checked, and one was begun
    # twice.
    assert len(sent) == 11 + outcome_table.CHECKED
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert resumed.sha256 == whole.sha256
    assert torch.equal(resumed.codes, whole.codes)
    assert len(ideal_codes(resumed.scenario)) == 49
