from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from experiments.common.arms import COLOURS, DESIGNS, arm_name
from experiments.common.record import RESULTS, MalformedResultError, read, save
from experiments.report import __main__ as report
from experiments.report.content import Plot, difference, paired
from experiments.report.page import build
from experiments.report.sections import sections

KEYS = [
    *("table1", "table2", "recipes", "fig6", "significance", "fig7a_resnet50", "fig7a_llama"),
    *("fig7b", "cascade", "noise", "rounding", "few_bits", "search", "imperfections"),
    *("nonidealities", "link_budget", "crossbar", "restoring", "error_frontier", "buildable"),
]


@pytest.fixture(scope="module")
def committed() -> str:
    """The page of the committed results."""
    return build(RESULTS)


def runs(folder: Path, name: str, values: dict[str, list[float]], metric: str) -> None:
    save(
        name,
        title="runs",
        source="Fig. 7a",
        command=f"python run.py -m experiment={name}",
        rows=[
            {"arm": arm, "seed": seed, "metric": metric, "value": value}
            for arm, of_arm in values.items()
            for seed, value in enumerate(of_arm)
        ],
        folder=folder,
    )


def points_of(plot: Plot) -> dict[str, list[tuple[list[float], list[float]]]]:
    """The points of every line that a plot draws, by its name."""
    (axes,) = plot.figure.axes
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    for line in axes.lines:
        name = str(line.get_label())
        if not name.startswith("_"):
            xs, ys = line.get_data()
            found.setdefault(name, []).append(([*map(float, xs)], [*map(float, ys)]))
    return found


def colours_of(plot: Plot) -> dict[str, set[str]]:
    """The colours of lines and bands, by name."""
    (axes,) = plot.figure.axes
    found: dict[str, set[str]] = {}
    for line in axes.lines:
        found.setdefault(str(line.get_label()), set()).add(to_hex(line.get_color()))
    for band in axes.collections:
        found[str(band.get_label())].add(to_hex(band.get_facecolor()[0]))
    return found


def words_of(plot: Plot) -> list[str]:
    (axes,) = plot.figure.axes
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_an_empty_folder_shows_every_command(tmp_path: Path) -> None:
    built = list(sections(tmp_path))
    assert [section.key for section in built] == KEYS
    assert {section.state for section in built} == {"missing"}
    page = build(tmp_path)
    for command in (
        *("python -m experiments.table1", "python -m experiments.fig6"),
        *("python -m experiments.fig7b", "python -m experiments.cascade"),
        "python -m experiments.fig7a resnet50 --scale smoke data.root=FOLDER",
        *("python -m experiments.search", "python -m experiments.recipes"),
        "python -m experiments.nonidealities",
        "python -m experiments.link_budget",
        "python -m experiments.buildable data.root=FOLDER",
        "python -m experiments.crossbar",
        *("python -m experiments.imperfections", "python -m experiments.restoring"),
        "python -m experiments.error_frontier",
    ):
        assert command in page


def test_committed_results_are_shown_with_their_origin(committed: str) -> None:
    built = {section.key: section for section in sections(RESULTS)}
    for key in ("table1", "table2", "noise", "rounding", "search", "nonidealities"):
        assert built[key].state == "measured"
        assert all(isinstance(plot, Plot) for plot in built[key].plots)
    assert built["table1"].ours.startswith("All 8 structures receive every input right. Their")
    assert built["fig6"].ours == (
        "With 4, 8 and 16 servers, each of them sends the gradient's size 1.5, 1.75 and 1.875 "
        "times by ring and once by OptINC"
    )
    assert built["rounding"].ours == (
        "With 4 bits, training costs 0.132 nats rounded half to even (the best Q) and 0.469 nats "
        "rounded down (the worst). With 8 bits, training costs 0.008 nats rounded half up (the "
        "best Q) and 0.011 nats rounded down (the worst)"
    )
    assert built["fig7b"].state == built["link_budget"].state == "modelled"
    # Budgets, and designs with and without an ONN by levels and noise.
    assert [len(table.rows) for table in built["link_budget"].tables] == [96, 12]
    for name in ("table1", "fig7b_curves", "rounding"):
        assert f'download="{name}.csv"' in committed
    assert "commit 7a499b5" in committed
    assert "not recorded: the .json" not in committed
    assert 'name="viewport"' in committed
    plots = [plot for section in built.values() for plot in section.plots]
    assert committed.count("<svg ") == len(plots) > 20


def test_the_page_is_small_and_loads_nothing(committed: str) -> None:
    page = committed
    assert not re.search(r'<(?:img|link|iframe)[^>]*(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert re.findall(r'href="(http[^"]*)"', page) == ["https://arxiv.org/abs/2603.28290"]
    # The data, once to download and once to read, are most of it.
    data = sum(path.stat().st_size for path in RESULTS.glob("*.csv"))
    assert len(page.encode()) < 5 * data


def test_no_section_says_its_result_as_a_list_of_names_and_numbers(committed: str) -> None:
    for section in sections(RESULTS):
        assert re.match(r"[A-Z0-9].*\w", section.ours), section.ours
        assert not re.search(r"\w_\w|; \S+ [+-]", section.ours)
    assert "onn_16</" not in re.sub("<details.*?</details>", "", committed, flags=re.DOTALL)


def test_a_result_without_origin_says_so(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "noise.csv", tmp_path)
    assert "not recorded: the .json" in build(tmp_path)


def test_short_runs_are_labelled_and_the_papers_stay_missing(tmp_path: Path) -> None:
    values = {"ring": [0.4, 0.5], "optinc": [0.44, 0.44], "table2_3_4_5_6": [0.4, 0.4]}
    runs(tmp_path, "fig7a_resnet50_smoke", values, "val_acc")
    section = next(s for s in sections(tmp_path) if s.key == "fig7a_resnet50_smoke")
    assert section.state == "smoke"
    assert section.ours == (
        "A smoke run, not the paper's training. Exact averaging ends at 45 %. On the same seeds, "
        "2 other arms differ from it by -5.00 points (16 bits, Table II's errors of layers 3-6) to "
        "-1.00 points (optinc)"
    )
    assert "--scale paper" in section.missing[0].command
    assert "difference" not in section.tables[0].columns
    assert section.tables[0].rows[1] == ["optinc", "2", "44.0000", "-0.03", "-1.0000"]


def test_runs_of_the_papers_length_are_compared_with_it(tmp_path: Path) -> None:
    values = {"ring": [2.93], "optinc": [2.95], "table2_3_4_5_6": [2.97]}
    runs(tmp_path, "fig7a_llama_paper", values, "val_loss")
    runs(tmp_path, "fig7a_llama_smoke", values, "val_loss")
    built = [s for s in sections(tmp_path) if s.key.startswith("fig7a_llama")]
    assert [section.state for section in built] == ["measured", "smoke"]
    assert built[0].tables[0].rows[1][-3:] == ["+0.018", "+0.0200", "+0.0020"]
    assert built[0].tables[0].rows[0][2:4] == ["2.9300", "18.73"]  # loss, perplexity
    assert built[0].missing == []


def test_what_has_learned_stands_before_smoke_runs(tmp_path: Path) -> None:
    for scale in ("smoke", "cpu"):
        runs(tmp_path, f"fig7a_resnet50_{scale}", {"ring": [0.5], "onn_16": [0.5]}, "val_acc")
    runs(tmp_path, "fig7a_llama_cpu", {"ring": [4.0], "onn_16": [4.0]}, "val_loss")
    built = [s for s in sections(tmp_path) if "Fig. 7a" in s.source]
    assert [(section.key, section.state) for section in built] == [
        ("fig7a_resnet50_cpu", "scaled"),
        ("fig7a_llama_cpu", "scaled"),
        ("significance", "missing"),
        ("fig7a_resnet50_smoke", "smoke"),
    ]
    assert "Scale cpu" in built[0].says
    assert "does not say" in built[0].says
    assert "one seed" in built[0].says
    assert [gap.command.split()[5] for gap in built[3].missing] == ["paper"]
    assert "does not say" in build(tmp_path)


def test_an_arm_has_one_colour_and_one_name_for_all_its_seeds(tmp_path: Path) -> None:
    runs(tmp_path, "fig7a_llama_smoke", {"ring": [3.0], "own": [3.0]}, "val_loss")
    rows = [
        {"arm": arm, "seed": seed, "step": step, "value": 3.0 + seed}
        for arm in (*COLOURS, "own", "other")
        for seed in (1, 2, 3)
        for step in (9, 19)
    ]
    name = "fig7a_llama_smoke_curves"
    save(name, title="t", source="Fig. 7a", command="c", rows=rows, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "fig7a_llama_smoke")
    names = [arm_name(arm) for arm in (*COLOURS, "own", "other")]
    (plot,) = section.plots
    # The mean of three seeds, one line an arm, and their range behind it.
    assert points_of(plot) == {name: [([9.0, 19.0], [5.0, 5.0])] for name in names}
    bands = plot.figure.axes[0].collections
    assert [band.get_label() for band in bands] == names
    for band in bands:
        (outline,) = band.get_paths()
        assert {tuple(corner) for corner in outline.vertices} == {
            *((9.0, 4.0), (9.0, 6.0), (19.0, 4.0), (19.0, 6.0))
        }
    colours = colours_of(plot)
    assert all(len(of_arm) == 1 for of_arm in colours.values())
    assert colours["exact averaging"] == {COLOURS["ring"]}
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == names
    assert "not recorded" not in build(tmp_path)


def test_every_file_of_data_that_is_kept_has_its_record() -> None:
    assert sorted(path.stem for path in RESULTS.glob("*.csv")) == sorted(
        path.stem for path in RESULTS.glob("*.json")
    )


def differences(folder: Path, name: str) -> None:
    shared = {"training": "LLaMA, 9 steps", "unit": "nats", "better": -1, "seeds": 10, "mean": 1.6}
    shared |= {"minus": "ring", "smallest seen": 0.02}
    rows = [
        shared | {"arm": arm, "difference": d, "low": d - 0.01, "high": d + 0.01, "p Holm": p}
        for arm, d, p in (("ideal_8", 0.001, 1.0), ("ideal_4", 0.05, 0.001), ("qsgd", -0.05, 0.01))
    ]
    save(name, title="t", source="Fig. 7a", command="c", rows=rows, folder=folder)


def test_paired_seeds_are_told_with_what_could_not_be_seen(tmp_path: Path) -> None:
    differences(tmp_path, "significance_quick")
    quick = next(s for s in sections(tmp_path) if s.key == "significance")
    assert quick.state == "smoke"
    assert "only large differences" in quick.says
    assert quick.missing
    differences(tmp_path, "significance")
    section = next(s for s in sections(tmp_path) if s.key == "significance")
    assert section.state == "scaled"
    assert section.missing == []
    assert section.ours == (
        "LLaMA, 9 steps: of 3 comparisons over 10 seeds, 1 is worse (4 bits, ideal switch), 1 is "
        "better (QSGD) and no difference found in 1"
    )
    assert section.tables[0].rows[1][-1] == "worse"
    (plot,) = section.plots
    unseen = plot.figure.axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in unseen] == [(-0.02, 0.04)] * 3
    intervals = {name: [xs for xs, _ in drawn] for name, drawn in points_of(plot).items()}
    assert intervals == {
        "8 bits, ideal switch": [pytest.approx([-0.009, 0.011]), [0.001]],
        "4 bits, ideal switch": [pytest.approx([0.04, 0.06]), [0.05]],
        "QSGD": [pytest.approx([-0.06, -0.04]), [-0.05]],
    }
    assert colours_of(plot)["8 bits, ideal switch"] == {COLOURS["ideal_8"]}
    assert words_of(plot) == [*intervals, "no difference found", "worse", "better"]
    assert "no proof of none" in build(tmp_path)


def test_runs_without_exact_averaging_are_refused(tmp_path: Path) -> None:
    runs(tmp_path, "fig7a_llama_smoke", {"optinc": [3.0]}, "val_loss")
    with pytest.raises(MalformedResultError, match="needs runs of arm 'ring'"):
        build(tmp_path)


ACCURACY = {
    "ONNs": "smallest",
    "what": "composed, random",
    "inputs": 1000,
    "wrong": 3,
    "accuracy %": 99.7,
    "smallest margin": -0.1,
}


def test_a_cascade_is_shown_beside_the_paper_s(tmp_path: Path) -> None:
    area = {"ONNs": "expanded", "level": 1, "structure": "4-4", "MZIs": 9}
    area |= {"overhead %": 10, "paper overhead %": 10.5}
    trained = [
        {"arm": arm, "seed": 1, "loss": loss, "quantisation error %": error}
        for arm, loss, error in (("ring", 3.0, None), ("eq. 10", 3.1, 0.5))
    ]
    moved = {"model": "m", "servers": 16, "saving %": 7.0}
    for name, rows in (
        ("cascade_accuracy", [ACCURACY]),
        ("cascade_area", [area]),
        ("cascade_training", trained),
        ("cascade_traffic", [moved]),
    ):
        save(name, title="t", source="Fig. 5", command="c", rows=rows, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "cascade")
    assert section.ours == (
        "Two levels joined by light receive inputs wrong: 3 of 1,000 with smallest ONNs (random). "
        "Compared with the ONN of a single switch, interferometers change by +10.0 % with "
        "expanded ONNs"
    )
    assert section.tables[1].rows == [["expanded", "1", "4-4", "9", "10.5", "10", "-0.5"]]
    assert len(section.plots) == 3
    drawn = points_of(section.plots[0])
    assert "exact averaging (1)" not in drawn
    ([low, high], _), ([value], _) = next(each for name, each in drawn.items() if "(1)" in name)
    assert low == high == value == pytest.approx(0.1)
    assert len(section.results) == 4


def chip(design: str, technology: str, *, good: float, **more: object) -> dict[str, object]:
    row = {"design": design, "technology": technology, "calibration": "none", "devices": 9}
    row |= {"chips": 100, "yield %": good, "low": good, "high": good, "right %": 99.0}
    return row | {"tolerated": 2.0, "pJ/bit": 30.0, "mm^2": 1.0} | more


def test_what_can_be_built_is_told_by_design(tmp_path: Path) -> None:
    rows = [
        chip("a", "silicon", good=95.0),
        chip("a", "best", good=94.0, tolerated=None),
        chip("a", "silicon", good=96.0, calibration="known", tolerated=None),
        chip("b", "silicon", good=0.0, tolerated=None),
    ]
    save("buildable_quick", title="t", source="", command="c", rows=rows, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "buildable")
    assert section.state == "smoke"
    assert section.missing
    assert section.ours == (
        "2 of 3 designs can be built: in a published technology at least 95 % of the drawn chips "
        "are good. The cheapest is a in silicon, at 30.0 pJ/bit"
    )
    assert points_of(section.plots[0]) == {"a": [([30.0], [2.0])]}
    learned = {"model": "llama", "arm": "bit 7 at 0.1", "seeds": 3, "difference": 0.5}
    learned |= {"low": 0.4, "high": 0.6, "p Holm": 0.01, "smallest seen": 0.1, "better": -1}
    learned |= {"unit": "nats", "wrong codes": 0.1, "gradient error": 3.0}
    for name, of_name in (("buildable", rows), ("buildable_learning", [learned])):
        save(name, title="t", source="", command="c", rows=of_name, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "buildable")
    assert section.state == "measured"
    assert section.missing == []
    name = "bit 7 wrong at a rate of 0.1 (error 3)"
    assert points_of(section.plots[1]) == {name: [([0.4, 0.6], [0, 0]), ([0.5], [0])]}
    assert words_of(section.plots[1]) == [name, "worse"]
    assert "can this switch be built" in build(tmp_path).lower()


def budget(onn: str, chip: str, *, noise: float, verdict: str) -> dict[str, str | float]:
    row: dict[str, str | float] = {"ONN": onn, "chip": chip, "chain dB": 200.0, "noise %": noise}
    row |= {"borne %": 1.0, "levels at unit P": 40, "levels needed": 13, "dBm needed": 10.0}
    return row | {"pJ/bit": 700.0, "verdict": verdict}


def test_link_budgets_say_which_switches_have_light_enough(tmp_path: Path) -> None:
    rows = [
        budget("a", "silicon", noise=2.0, verdict="not possible with this laser: layer 7"),
        budget("a", "best", noise=0.5, verdict="possible: 70 times the energy"),
    ]
    save("link_budget", title="t", source="", command="c", rows=rows, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "link_budget")
    assert section.ours == (
        "1 of 2 switches have light enough. Least energy, 700.0 pJ/bit, takes “a” in “best”"
    )
    assert points_of(section.plots[0]) == {"silicon": [([2.0], [700])], "best": [([0.5], [700])]}
    stages = [
        {"ONN": "b8_n4_half_even_robust", "chip": "best", "segment": f"layer {i}", "SNR dB": 40 - i}
        for i in (1, 2)
    ]
    save("link_budget_stages", title="t", source="", command="c", rows=stages, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "link_budget")
    assert points_of(section.plots[1]) == {"best": [([1, 2], [39, 38])]}
    assert len(section.results) == 2


def test_crossbars_stand_beside_meshes(tmp_path: Path) -> None:
    rows = [
        {"ONN": "a", "hardware": hardware, "MZIs": mzis, "right %, 0.01 rad": 50.0}
        | {"right %, target": right}
        for hardware, mzis, right in (("mesh", 500, 1.0), ("crossbar_fields", 200, 99.5))
    ]
    save("crossbar", title="t", source="", command="c", rows=rows, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "crossbar")
    assert section.ours.endswith(
        "a receives of its inputs right: 1.0 % as a mesh (500 MZIs) and 99.5 % as a crossbar of "
        "fields (200 MZIs)"
    )
    assert len(section.tables[0].rows) == 2


def test_effects_of_chips_are_shown_alone_and_all_at_once(tmp_path: Path) -> None:
    name = "b8_n4_half_even_robust"
    alone = [
        {"ONN": name, "effect": "phase_error", "unit": "rad", "level": level, "right %": right}
        for level, right in ((0.001, 100.0), (0.01, 60.0), (float("inf"), 0.0))
    ]
    limit = {"effect": "phase_error", "unit": "rad", "robust, 99 %": "0.004", "silicon": "0.01"}
    together = [
        {"ONN": other, "preset": "silicon", "right %": right}
        for other, right in ((name, 12.345), ("b8_n4_half_even_dense", 0.5))
    ]
    save("nonidealities", title="t", source="", command="c", rows=alone, folder=tmp_path)
    # Without the levels, the study is not whole.
    section = next(s for s in sections(tmp_path) if s.key == "nonidealities")
    assert section.state == "missing"
    save("nonidealities_limits", title="t", source="", command="c", rows=[limit], folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "nonidealities")
    assert section.ours == "Each effect is swept alone, 1 effect in all"
    (drawn,) = section.plots
    assert points_of(drawn) == {"robust": [([0.001, 0.01], [100, 60])]}
    assert colours_of(drawn) == {"robust": {DESIGNS["robust"]}}
    assert section.tables[0].rows == [["phase_error", "rad", "0.004", "0.01"]]
    save("nonidealities_presets", title="t", source="", command="c", rows=together, folder=tmp_path)
    section = next(s for s in sections(tmp_path) if s.key == "nonidealities")
    assert section.ours.endswith("the best design receives of its inputs right: 12.3 % (silicon)")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fig6.csv", "model,servers\na,4\n", "fig6.csv has no column 'method'"),
        ("fig6.csv", "", "fig6.csv has no rows"),
        ("noise.csv", "ONN,MZIs,0 %,1 %\nx,3,100\n", "noise.csv, row 1: expected 4 cells"),
        ("noise.csv", "ONN,MZIs,0 %,1 %\nx,3,100,99,98\n", "noise.csv, row 1: expected 4 cells"),
        ("noise.csv", "ONN,MZIs,0 %,1 %\nx,3,100,nan\n", "line 2: column '1 %' must be a number"),
        ("noise.json", "{", "noise.json is no JSON file"),
        ("noise.json", "[]", "noise.json must hold an object"),
        ("noise.json", '{"title": "t"}', "noise.json has no command, commit"),
    ],
)
def test_damaged_results_are_named(
    name: str,
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kept in RESULTS.glob(f"{Path(name).stem}.*"):
        shutil.copy(kept, tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(MalformedResultError, match=re.escape(message)):
        build(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match=re.escape(message)):
        report.main()
    assert not (tmp_path / "report.html").exists()


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MalformedResultError, match=r"noise\.csv is no CSV file"):
        build(tmp_path)


def test_text_of_results_is_not_markup(tmp_path: Path) -> None:
    row = ACCURACY | {"ONNs": "<b>x</b>"}
    save("cascade_accuracy", title="t", source="", command="<i>", rows=[row], folder=tmp_path)
    page = build(tmp_path)
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<i>" not in page


def test_the_command_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "page.html"
    arguments = ["report", "--results", str(tmp_path), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    report.main()
    assert str(output) in capsys.readouterr().out
    assert output.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    monkeypatch.setattr(sys, "argv", ["report", "--results", str(output)])
    with pytest.raises(SystemExit):
        report.main()
    assert "--results must be a folder" in capsys.readouterr().err


def test_pairs_and_differences() -> None:
    assert difference("1.5", "1.5") == "0"
    assert difference("39.3", "39.27") == "-0.03"
    assert difference("none", "none") == difference("100", "") == ""
    result = read("table2")
    assert result is not None
    table = paired(result, describe=("layers approximated",))
    assert list(table.columns) == [
        *("layers approximated", "accuracy %, paper", "accuracy %, ours", "difference"),
        *("errors, paper", "errors, ours", "area %, paper", "area %, ours", "difference"),
    ]
