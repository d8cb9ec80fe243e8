from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optinc.onn.training.search import SearchSpace, pareto_front
from optinc.signal.scenario import make_scenario

SPACE = SearchSpace(
    shipped=True,
    max_steps=[3, 4, 7],
    copies=[1],
    fine_tune_noise=[0.0, 0.01],
    widths=[16, 8],
    depths=[2, 1],
    approximations=["none", "all"],
)


def test_the_schedule_is_fixed_constructed_first_then_trained_by_area() -> None:
    scenario = make_scenario(bits=8, servers=8, onn_inputs="auto", rounding="floor")
    trials = SPACE.trials(scenario)
    assert trials == SPACE.trials(scenario)
    kinds = [trial.kind for trial in trials]
    # 3 and 4 steps give the same structure, which is tried once.
    assert kinds == ["constructed"] * 3 + ["fine_tuned"] * 4 + ["trained"] * 8
    trained = [trial.mzi_count for trial in trials if trial.kind == "trained"]
    assert trained == sorted(trained)
    assert len({trial.name for trial in trials}) == len(trials)
    assert trials[-1].design.structure == (4, 16, 16, 4)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_no_point_beats_one_on_the_front_and_every_other_is_beaten(
    points: list[tuple[float, float]],
) -> None:
    front = pareto_front(points)

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    for i in front:
        assert not any(beats(point, points[i]) for point in points)
    chosen = {points[i] for i in front}
    for point in points:
        assert point in chosen or any(beats(other, point) for other in chosen)


def test_the_zoo_s_trained_onns_are_compared() -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    shipped = [trial for trial in SPACE.trials(scenario) if trial.kind == "shipped"]
    assert "b8_n4_half_even_all_layers" in [trial.name for trial in shipped]
    assert not any("smallest" in trial.name for trial in shipped)
    for trial in shipped:
        network = trial.initial()
        assert network is not None
        assert network.structure == trial.design.structure
