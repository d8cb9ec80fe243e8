"""Manual optimisation, and our hook in torch's DistributedDataParallel, by two processes."""

from __future__ import annotations

import pytest
import torch

from tests.integration.ddp_behaviours import Behaviours


@pytest.fixture(scope="module")
def runs(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Behaviours:
    return Behaviours(tmp_path_factory.mktemp("hook"), "gan", "manual", "hook")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gan", "gan_accumulating", "manual"])
def test_steps_by_hand_end_in_the_weights_of_exact_averaging(runs: Behaviours, case: str) -> None:
    """BatchNorm's statistics included: they are those of every server in either."""
    runs.assert_equal_on_all(case)
    for rank in (0, 1):
        ours, exact = runs.state(case, rank), runs.state(f"{case}_exact", rank)
        assert ours.keys() == exact.keys()
        assert all(torch.equal(value, exact[key]) for key, value in ours.items())


@pytest.mark.slow
def test_every_backward_pass_that_is_synchronised_is_one_reduction(runs: Behaviours) -> None:
    for case, reductions in [
        ("gan", 8),
        ("gan_not_toggled", 8),
        ("gan_accumulating", 6),
        ("manual", 2),
    ]:
        assert [notes[case]["reductions"] for notes in runs.notes] == [reductions] * 2, case


@pytest.mark.slow
def test_a_gan_without_find_unused_parameters_is_refused_by_name(runs: Behaviours) -> None:
    for notes in runs.notes:
        assert "no gradient to parameters 'generator.0.weight'" in notes["gan_not_found"]["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("parity", 4),
        ("parity_one_bucket", 4),
        ("parity_views", 4),
        ("parity_static", 4),
        ("parity_static_unused", 4),
        ("parity_no_sync", 2),
        ("parity_no_sync_views", 2),
        ("parity_unused", 4),
        ("parity_unused_everywhere", 4),
    ],
)
def test_gradients_are_those_of_plain_ddp(runs: Behaviours, case: str, steps: int) -> None:
    for notes in runs.notes:
        found = notes[f"hook_{case}"]
        assert found["equal"]
        assert found["not_zero"]
        assert found["steps"] == found["reductions"] == steps
        assert (found["calls"] > steps) == (case != "parity_one_bucket"), "several buckets"


@pytest.mark.slow
def test_a_server_with_fewer_batches_joins_with_zeros(runs: Behaviours) -> None:
    assert [notes["hook_joined"]["equal"] for notes in runs.notes] == [True, True]


@pytest.mark.slow
def test_what_ddp_and_the_hook_refuse(runs: Behaviours) -> None:
    for notes in runs.notes:
        assert "can only be called once" in notes["hook_twice"]["refused"]
        assert "parameters 'third.weight', 'third.bias'" in notes["hook_unused"]["error"]
        assert notes["hook_unused"]["error"].startswith("ConfigurationError: server 1: ")
        assert "parameter 'weight' has a sparse gradient" in notes["hook_sparse"]["error"]


@pytest.mark.slow
def test_a_strategy_can_be_stored_before_the_training(runs: Behaviours) -> None:
    assert [notes["hook_stored"]["fidelity"] for notes in runs.notes] == ["table"] * 2
