"""Bookkeeping of ``benchmarks.wire``: cases that are left, and what the table derives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.arms import ARMS, OPTINC_8, TORCH
from benchmarks.gradients import shapes_of
from benchmarks.turns import Turns
from benchmarks.wire import __main__ as wire
from benchmarks.wire import worker
from benchmarks.wire.cases import (
    MEMORY_OF_A_VALUE,
    NETWORK_SIZES,
    Case,
    all_cases,
    measured_together,
    quick_cases,
    selected,
    served_together,
)
from benchmarks.wire.table import derived, draw, read_rows, rows_of
from benchmarks.wire.worker import Task, append
from optinc.errors import ConfigurationError

MEASURED = {
    "size": 1_000_000,
    "step": 0.5,
    "local": 0.3,
    "exposed": 0.002,
    "alone": 0.008,
    "alone_cpu": 0.001,
    "sent": 6_000_000,
    "frames": 6_250_000,
}


def network_case(arm: str, **changed: Any) -> Case:
    return Case(**{"link": "1", "servers": 4, "gradient": "mlp", "arm": arm, "batch": 8} | changed)


def test_bandwidths_are_those_of_nccl_tests() -> None:
    row = derived(network_case(TORCH), {network_case(TORCH): MEASURED})
    assert row["algbw"] == pytest.approx(0.5)  # 4 MB in 8 ms
    assert row["busbw"] == pytest.approx(0.75)  # times 2 (4 - 1) / 4
    assert row["per_value"] == 6
    assert row["hidden"] == pytest.approx(0.75)  # 2 of 8 ms lengthen the step
    assert row["link_seconds"] == pytest.approx(0.05)  # 50 Mb at 1 Gb/s


def test_speed_is_that_of_steps_where_something_is_trained_and_else_of_the_exchange() -> None:
    # The median over rounds, which the ratio of medians need not be.
    ours, torchs = network_case(OPTINC_8), network_case(TORCH)
    found = {torchs: {**MEASURED, "step": 1.5}, ours: {**MEASURED, "faster": 2.5}}
    assert derived(ours, found)["faster"] == 2.5
    flat, torchs = (network_case(arm, batch=0, values=10**6) for arm in (OPTINC_8, TORCH))
    found = {torchs: {**MEASURED, "alone": 0.016}, flat: MEASURED}
    assert derived(flat, found)["faster"] == pytest.approx(2)
    assert "hidden" not in derived(flat, found)


def test_failures_stay_in_the_table(tmp_path: Path) -> None:
    case = network_case(OPTINC_8)
    rows = rows_of([case, network_case(TORCH)], {case: {"failed": "server 1 ended"}})
    assert [(row["arm"], row["note"]) for row in rows] == [(OPTINC_8, "server 1 ended")]
    draw([*rows, derived(network_case(TORCH), {network_case(TORCH): MEASURED})], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_cases_are_told_apart_and_selected_by_name() -> None:
    cases = list(all_cases(links=["1", "10", "loopback"], servers=[2, 4, 8]))
    assert len({case.name for case in cases}) == len(cases) == 9 * len(ARMS) * 10
    chosen = selected(iter(cases), "^1 Gb/s, 4 servers, resnet50, optinc 8")
    assert [case.name for case in chosen] == ["1 Gb/s, 4 servers, resnet50, optinc 8 bits"]
    quick = list(quick_cases(["1", "10", "loopback"]))
    assert {case.arm for case in quick} == set(ARMS)
    assert {case.link for case in quick_cases(["loopback"])} == {"loopback"}


def test_memory_grows_with_servers_and_values_and_names_are_those_of_arms() -> None:
    assert set(MEMORY_OF_A_VALUE) < set(ARMS)
    flat = {"batch": 0, "values": 10**8}
    assert network_case(TORCH, servers=8, **flat).memory == 8 * (0.5e9 + 1.6e9)
    assert network_case("int8 blocks", servers=2, **flat).memory == 2 * (0.5e9 + 2.8e9)


def test_processes_are_started_anew_before_their_memory_is_full() -> None:
    flat = {"batch": 0, "values": 10**8, "servers": 8}
    large = [network_case(arm, **flat) for arm in ARMS]
    assert served_together(large) == large[:2]  # 2 * 8 servers * 600 MB
    other = [network_case(TORCH, link="10"), network_case(OPTINC_8, link="10")]
    small = [network_case(arm, servers=8) for arm in ARMS]
    assert served_together([*small, *other]) == small[:9]  # 9 * 8 servers * 126 MB
    assert served_together([*small[:2], *other]) == small[:2]


def test_ways_to_average_one_network_take_turns_as_far_as_memory_allows() -> None:
    flat = [network_case(arm, batch=0, values=10**6) for arm in (TORCH, OPTINC_8)]
    few = [network_case(arm, servers=2) for arm in ARMS]
    many = [network_case(arm, servers=8) for arm in ARMS]
    groups = measured_together([*few, *flat, *many])
    assert groups[:3] == [few, [flat[0]], [flat[1]]]
    assert [case for group in groups[3:] for case in group] == many
    assert [len(group) for group in groups[3:]][:2] == [3, 2]


def test_steps_of_all_ways_take_turns_with_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Times of a machine that slows down all the time: only steps side by side compare."""
    times_of = {TORCH: 3.0, OPTINC_8: 1.0, "optinc 2 bits": 0.5}
    done: list[str] = []

    def training_steps(case: Case) -> tuple[Any, Any]:
        return (lambda: done.append(case.arm)), (lambda: done.append("local"))

    def take_turns(jobs: Any, *, seconds: float, most: int) -> Turns:
        assert seconds == 3 * 7
        done.clear()
        for job in jobs:
            job()
        times = [[0.5 if arm == "local" else times_of[arm] for _ in range(3)] for arm in done]
        slower = [[round_ * each for round_, each in enumerate(rounds, 1)] for rounds in times]
        return Turns(slower, slower, slower, slower)

    monkeypatch.setattr(worker, "training_steps", training_steps)
    monkeypatch.setattr(worker, "take_turns", take_turns)
    cases = [network_case(OPTINC_8), network_case("optinc 2 bits")]
    task = Task(cases, tmp_path / "lines", 7.0, 20, math.inf, "abc")
    rows = worker.train(cases, task)
    assert done == [OPTINC_8, "local", "optinc 2 bits", "local", TORCH, "local"]
    assert [row["faster"] for row in rows] == [3, 6]
    assert [row["exposed"] for row in rows] == [1.0, 0.0]


def test_sizes_of_networks_are_right() -> None:
    found = {
        name: sum(shape.numel() for shape in shapes_of(name)) for name in ("resnet50", "llama")
    }
    assert {**found, "mlp": 5 * 2048 * 2049} == NETWORK_SIZES


def test_tasks_survive_writing(tmp_path: Path) -> None:
    task = Task([network_case(TORCH)], tmp_path / "lines", 1.0, 20, math.inf, "abc")
    task.write(tmp_path / "task.json")
    assert Task.read(tmp_path / "task.json") == task


def test_what_has_been_measured_is_not_measured_again_and_failures_are_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.jsonl"
    names = list(ARMS)
    cases = [network_case(arm, batch=0, values=1000) for arm in names[:4]]
    append(lines, {**cases[0].row(), "code": "now", **MEASURED})
    append(lines, {**cases[1].row(), "code": "before", **MEASURED})
    served: list[list[str]] = []

    def serve(task: Task) -> str | None:
        """Servers of which one always ends in the third case."""
        served.append([case.arm for case in task.cases])
        for case in task.cases:
            if case == cases[2]:
                return "server 0 ended"
            append(lines, {**case.row(), "code": "now", **MEASURED})
        return None

    monkeypatch.setattr(wire, "serve", serve)
    wire.measure(cases, lines, code="now", seconds=1, deadline=math.inf)
    assert served == [names[1:4], names[3:4]]
    wire.measure(cases, lines, code="now", seconds=1, deadline=math.inf)
    assert served[2:] == [[names[2]]]
    found = read_rows(lines, "now")
    assert [case in found for case in cases] == [True] * 4
    assert found[cases[2]]["failed"] == "server 0 ended"
    assert [json.loads(line)["arm"] for line in lines.read_text().splitlines()].count(names[1]) == 2


def test_cases_that_took_turns_when_a_server_ended_have_failed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.jsonl"
    cases = [network_case(arm) for arm in (TORCH, OPTINC_8)]
    monkeypatch.setattr(wire, "serve", lambda task: "server 1 ended")
    wire.measure(cases, lines, code="now", seconds=1, deadline=math.inf)
    assert [read_rows(lines, "now")[case]["failed"] for case in cases] == ["server 1 ended"] * 2


def test_no_case_begins_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wire, "serve", lambda task: pytest.fail(f"served {task}"))
    wire.measure([network_case(TORCH)], tmp_path / "none", code="now", seconds=1, deadline=0)
    assert "1 cases are left" in capsys.readouterr().out


@pytest.mark.parametrize("link", ["fast", "-1", "0"])
def test_a_wrong_link_is_one_clear_error(link: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--links must be Gb/s .*got {link}"):
        wire.parse([f"--links={link}"])


def test_ctrl_c_is_no_error_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wire, "run", stop)
    monkeypatch.setattr("sys.argv", ["wire", "--quick"])
    with pytest.raises(SystemExit) as ended:
        wire.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped; run the same command again to go on\n"


@pytest.mark.parametrize(("given", "kept"), [([], None), (["--save"], "wire"), (["--save=x"], "x")])
def test_a_table_is_kept_only_on_request(
    given: list[str], kept: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(wire, "measure", lambda *_, **__: None)
    options = wire.parse([*given, f"--lines={tmp_path / 'lines.jsonl'}", "--only=2 servers, mlp"])
    monkeypatch.setattr(wire, "read_rows", lambda *_: {network_case(TORCH): {}})
    monkeypatch.setattr(wire, "rows_of", lambda *_: [{"link": "1", "servers": 2.0, "note": "x"}])
    monkeypatch.setattr(wire, "draw", lambda _, path: path.write_bytes(b"plot"))
    wire.run(options)
    found = sorted(path.name for path in tmp_path.glob("results/*"))
    assert found == ([] if kept is None else [f"{kept}.{kind}" for kind in ("csv", "md", "png")])
    if kept is not None:
        text = (tmp_path / "results" / f"{kept}.md").read_text()
        assert f"![plot]({kept}.png)" in text
        assert "python -m benchmarks.wire" in text
