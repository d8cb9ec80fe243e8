from __future__ import annotations

import pytest

from benchmarks import muon

pytestmark = pytest.mark.usefixtures("one_thread")


def test_both_optimisers_take_turns(capsys, monkeypatch) -> None:
    monkeypatch.setattr(muon, "ROUNDS", 1)
    monkeypatch.setattr("sys.argv", ["muon", "--quick"])
    muon.main()
    shown = capsys.readouterr().out
    assert "8 bits, 4 servers" in shown
    assert "8 servers" not in shown
