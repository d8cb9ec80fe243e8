from __future__ import annotations

import csv
from pathlib import Path

import pytest

from optinc.callbacks.signal_plots import WHOLE, Point, draw_curves, write_curves
from optinc.errors import OutputError

GROUPS = ["embed", "layers.0", "layers.1"]
QUANTITIES = ["gradient_norm", "onn_error_rate", "symbol_error_rate_1", "symbol_error_rate_2"]


def points() -> list[Point]:
    return [
        Point(step, group, quantity, value=step / 10 if quantity in QUANTITIES[1:] else 2.0 + step)
        for step in (0, 5, 10)
        for group in [*GROUPS, WHOLE]
        for quantity in QUANTITIES
    ]


def test_there_is_a_panel_for_each_quantity_and_one_for_all_symbols() -> None:
    figure = draw_curves(points())
    norm, errors, symbols = (axes for axes in figure.axes if axes.axison)
    assert (norm.get_ylabel(), norm.get_yscale()) == ("norm of the mean gradient", "log")
    # Zeros have no logarithm.
    assert (errors.get_ylabel(), errors.get_yscale()) == (
        "share of values with an ONN error",
        "linear",
    )
    assert [line.get_label() for line in norm.get_lines()] == [*GROUPS, WHOLE]
    assert [line.get_label() for line in symbols.get_lines()] == ["symbol 1", "symbol 2"]
    for axes in (norm, errors, symbols):
        for line in axes.get_lines():
            assert list(line.get_xdata()) == [0, 5, 10]
    assert list(norm.get_lines()[0].get_ydata()) == [2.0, 7.0, 12.0]


def test_one_quantity_of_one_group_is_enough() -> None:
    figure = draw_curves([Point(3, WHOLE, "gradient_norm", 1.0)])
    assert len(figure.axes) == 1


def test_files_hold_one_value_a_line_and_a_picture(tmp_path: Path) -> None:
    write_curves(tmp_path / "new", points())
    with (tmp_path / "new" / "signal_statistics.csv").open(newline="") as file:
        rows = [
            Point(int(row["step"]), row["group"], row["quantity"], float(row["value"]))
            for row in csv.DictReader(file)
        ]
    assert rows == points()
    picture = (tmp_path / "new" / "signal_statistics.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"signal_statistics\.csv cannot be written: "):
        write_curves(tmp_path / "file", points())
