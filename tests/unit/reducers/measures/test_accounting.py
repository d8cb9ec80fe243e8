from __future__ import annotations

import torch

from optinc.reducers.measures.accounting import Accounting
from optinc.reducers.ring import RingReducer


def test_totals_go_on_from_a_saved_state() -> None:
    reducer = RingReducer(servers=2)
    reducer(torch.ones(2, 10))
    state = reducer.accounting.state_dict()
    resumed = Accounting()
    resumed.load_state_dict(state)
    assert resumed == reducer.accounting
    assert all(isinstance(value, int | float) for value in state.values())


def test_rates_of_an_unused_reducer_are_zero() -> None:
    accounting = Accounting()
    assert accounting.quantization_error == 0.0
    assert accounting.onn_error_rate == 0.0


def test_the_summary_carries_the_bytes_of_the_reducer_in_use() -> None:
    assert Accounting(bytes_sent=5.0).summary()["bytes_sent"] == 5.0


def test_what_a_reducer_does_not_count_is_none_in_the_summary() -> None:
    summary = Accounting(seconds=1.5).summary()
    assert summary.pop("reducer_seconds") == 1.5
    assert set(summary.values()) == {None}
    reducer = RingReducer(servers=2)
    reducer(torch.ones(2, 10))
    summary = reducer.accounting.summary()
    assert (summary["quantization_error"], summary["onn_error_rate"]) == (0.0, 0.0)
    assert summary["bytes_sent"] == 40.0
    assert summary["nonfinite_blocks"] == 0


def test_the_errors_expected_of_a_chip_are_in_the_summary_of_one_only() -> None:
    names = {"onn_error_rate_expected", "onn_error_rate_standard_error"}
    assert not names & Accounting(reductions=1, values=100).summary().keys()
    accounting = Accounting(reductions=1, values=100, onn_errors=12, onn_errors_expected=9.0)
    summary = accounting.summary()
    assert [summary[name] for name in sorted(names)] == [0.09, 0.03]
    assert "onn_errors_expected" not in Accounting().state_dict()
    resumed = Accounting()
    resumed.load_state_dict(accounting.state_dict())
    assert resumed == accounting
