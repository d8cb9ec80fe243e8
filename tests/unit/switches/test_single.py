from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.signal import pam4, preprocessing
from optinc.signal.rounding import ROUNDINGS, quantized_average
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch

ZOO_NAMES = ["b8_n4_half_even_all_layers", "b8_n4_half_even_dense"]


def codes_of_all_inputs(servers: int) -> torch.Tensor:
    """Codes of the servers that produce every combination of sums once: int32 [N, inputs]."""
    scenario = make_scenario(bits=8, servers=servers, onn_inputs="auto", rounding="floor")
    sums = preprocessing.sums_of_index(torch.arange(scenario.combinations), scenario)
    symbols = [(sums - 3 * server).clamp(0, 3) for server in range(servers)]
    return torch.stack([pam4.decode(s).to(torch.int32) for s in symbols])


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_table_onn_and_ideal_agree_on_all_inputs(name: str) -> None:
    onn = ONNArtifact.load(zoo.ZOO / name)
    codes = codes_of_all_inputs(4)
    index = preprocessing.index_of_code(onn.card.scenario)[codes.long()].sum(0)
    assert torch.equal(index, torch.arange(28_561))
    table = TableSwitch(onn)(codes)
    assert table.dtype == torch.int32
    assert torch.equal(table, ONNSwitch(onn)(codes))
    assert torch.equal(table, IdealSwitch(onn.card.scenario)(codes))


def test_an_imperfect_onn_errs_alike_in_table_and_onn(small_onn: ONNArtifact) -> None:
    codes = torch.randint(0, 16, (2, 4000), dtype=torch.int32)
    table, network = TableSwitch(small_onn), ONNSwitch(small_onn, chunk_size=700)
    ideal = IdealSwitch(small_onn.card.scenario)
    received = table(codes)
    assert torch.equal(received, network(codes))
    errors = int((received != ideal(codes)).sum())
    assert errors > 0
    assert table.count_errors(codes, received) == errors
    assert network.count_errors(codes, received) == errors


@pytest.mark.parametrize("name", [name for name in zoo.names() if "_n4_decimal_" in name])
def test_every_fidelity_sends_back_the_same_sum_on_all_inputs(name: str) -> None:
    onn = ONNArtifact.load(zoo.ZOO / name)
    scenario = onn.card.scenario
    assert scenario.downlink == "decimal"
    sums = preprocessing.sums_of_index(torch.arange(scenario.combinations), scenario)
    codes = torch.stack(
        [pam4.decode((sums - 3 * server).clamp(0, 3)).to(torch.int32) for server in range(4)]
    )
    table = TableSwitch(onn)
    assert table.exact
    assert torch.equal(table(codes), codes.sum(0, dtype=torch.int32))
    assert torch.equal(ONNSwitch(onn)(codes), table(codes))
    assert torch.equal(IdealSwitch(scenario)(codes), table(codes))


@given(
    bits=st.sampled_from([2, 6, 8, 16]),
    servers=st.integers(1, 16),
    rounding=st.sampled_from(ROUNDINGS),
    seed=st.integers(0, 1000),
)
def test_ideal_is_integer_arithmetic(bits: int, servers: int, rounding: str, seed: int) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding=rounding)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (servers, 64), generator=generator, dtype=torch.int32)
    expected = quantized_average(codes.long().sum(0), servers=servers, rounding=rounding)
    assert torch.equal(IdealSwitch(scenario)(codes).long(), expected)


def test_every_switch_says_what_it_is(small_onn: ONNArtifact, tmp_path: Path) -> None:
    table = TableSwitch(small_onn, cache=tmp_path)
    assert (table.fidelity, table.cards) == ("table", (small_onn.card,))
    assert ONNSwitch(small_onn).fidelity == "onn"
    ideal = IdealSwitch(small_onn.card.scenario)
    assert (ideal.fidelity, ideal.cards) == ("ideal", ())


def test_a_table_finds_the_codes_of_the_data_set(small_onn: ONNArtifact) -> None:
    switch = TableSwitch(small_onn)
    averages, _ = samples_of_index(torch.arange(49), small_onn.card.scenario)
    assert torch.equal(switch.codes, pam4.decode(pam4.receive(small_onn.network(averages))))


def test_noise_is_refused_where_inputs_cannot_be_enumerated(
    small_onn: ONNArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optinc.signal.scenario.MAX_TABLE_ENTRIES", 10)
    with pytest.raises(ConfigurationError, match=r"noise=0\.1 needs the full scale"):
        ONNSwitch(small_onn, noise=0.1)
