from __future__ import annotations

from pathlib import Path

import pytest

from optinc.runs.finished_runs import read_curves


def test_curves_leave_out_empty_cells(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}
    (tmp_path / "metrics.csv").write_text("epoch,loss,step,val\n0,1.5,0,\n0,nan,1,2\n0,,2,3\n")
    curves = read_curves(tmp_path)
    assert set(curves) == {"loss", "val"}
    assert curves["val"] == ([1, 2], [2.0, 3.0])
    assert curves["loss"] == ([0, 1], [1.5, pytest.approx(float("nan"), nan_ok=True)])
