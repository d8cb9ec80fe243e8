from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import optinc.onn.evaluation as evaluation_module
from optinc.onn.evaluation import HardInputs, evaluate_exhaustively, share_wrong
from optinc.signal import pam4
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import make_scenario

SCENARIO = make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="floor")


class Oracle(nn.Module):
    """Emits the right symbols, except where told otherwise, each ``offset`` above its level."""

    def __init__(self, *, offset: float, wrong: dict[tuple[int, int], int]) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))
        self.wrong = wrong

    def forward(self, averages: Tensor) -> Tensor:
        sums = (averages * 2).round().long()
        codes = quantized_average(sums[:, 0] * 4 + sums[:, 1], servers=2, rounding="floor")
        for (high, low), code in self.wrong.items():
            codes[(sums[:, 0] == high) & (sums[:, 1] == low)] = code
        return pam4.encode(codes, symbols=2) + self.offset


def test_a_perfect_network_has_no_wrong_input() -> None:
    evaluation = evaluate_exhaustively(Oracle(offset=0.2, wrong={}), SCENARIO)
    assert (evaluation.combinations, evaluation.wrong_inputs, evaluation.accuracy) == (49, 0, 1.0)
    assert evaluation.error_values == {}
    assert abs(evaluation.smallest_margin - 0.3) < 1e-6


def test_errors_are_counted_in_units_of_the_last_place() -> None:
    # Sums (6, 6) stand for code 15, (0, 0) for 0 and (1, 0) for 2.
    wrong = {(6, 6): 11, (0, 0): 1, (1, 0): 3}
    evaluation = evaluate_exhaustively(Oracle(offset=0.0, wrong=wrong), SCENARIO)
    assert evaluation.wrong_inputs == 3
    assert evaluation.error_values == {-4: 1, 1: 2}
    assert evaluation.accuracy == 1 - 3 / 49
    assert evaluation.smallest_margin == -0.5


def test_hard_inputs_are_those_of_the_smallest_margin() -> None:
    network = Oracle(offset=0.0, wrong={(6, 6): 11, (0, 0): 1, (1, 0): 3})
    hard = HardInputs(below=0.1, limit=10)
    evaluate_exhaustively(network, SCENARIO, hard=hard)
    assert sorted(hard.index.tolist()) == [0, 7, 48]
    assert (hard.margin < 0).all()
    few = HardInputs(below=1.0, limit=2)
    few.add(torch.arange(4), torch.tensor([0.3, -0.2, 0.1, 2.0]))
    few.add(torch.arange(4, 6), torch.tensor([0.0, 0.9]))
    assert sorted(few.index.tolist()) == [1, 4]


def test_an_evaluation_ends_early_when_too_much_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_module, "BATCH_SIZE", 10)
    network = Oracle(offset=0.0, wrong={(row, column): 9 for row in range(7) for column in (0, 1)})
    whole = evaluate_exhaustively(network, SCENARIO)
    assert whole.exhaustive
    part = evaluate_exhaustively(network, SCENARIO, most_wrong=4)
    assert not part.exhaustive
    assert 4 <= part.wrong_inputs < whole.wrong_inputs
    assert sum(part.error_values.values()) == part.wrong_inputs
    assert evaluate_exhaustively(network, SCENARIO, most_wrong=whole.wrong_inputs + 1) == whole


def test_batches_cover_every_index_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_module, "BATCH_SIZE", 10)
    batches = list(evaluation_module.index_batches(49, device=torch.device("cpu"), progress=None))
    assert sorted(torch.cat(batches).tolist()) == list(range(49))
    assert max(map(len, batches)) <= 10
    assert all(int(batch[-1]) >= 44 for batch in batches)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (4, "8.2 % of its inputs (4 of 49)"),
        (48, "98 % of its inputs (48 of 49)"),
        (49, "100 % of its inputs (49 of 49)"),
    ],
)
def test_the_share_of_wrong_inputs_is_written_as_a_reader_writes_it(wrong: int, text: str) -> None:
    assert share_wrong(wrong, 49) == text
