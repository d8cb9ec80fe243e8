from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.agreement import (
    agree,
    any_server,
    call_roll,
    describe_parameters,
)
from optinc.strategies.flat_parameters import FlatParameters


class Others:
    """A group in which server 0 is this one, and the others have what is given."""

    def __init__(self, *others: dict[str, Any]) -> None:
        self.others = others

    def gather_objects(self, mine: dict[str, Any]) -> list[dict[str, Any]]:
        return [mine, *({**mine, **other} for other in self.others)]


def compare(*others: dict[str, Any]) -> None:
    group: Any = Others(*others)
    agree(RingReducer(servers=3), FlatParameters(nn.Linear(2, 1)), group)


def test_equal_servers_agree() -> None:
    compare({}, {})


def test_parameters_are_described_by_name_shape_and_dtype() -> None:
    module = nn.Linear(2, 1).to(torch.bfloat16)
    module.bias.requires_grad_(False)
    assert describe_parameters(FlatParameters(module)) == ["weight [1, 2] bfloat16"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            [{}, {"parameters": ["bias [1] float32", "weight [1, 2] float32"]}],
            "rank 0 has 'weight [1, 2] float32' at position 0, rank 2 has 'bias [1] float32'; all",
        ),
        (
            [{"parameters": ["weight [1, 2] float32"]}],
            "rank 0 has 'bias [1] float32' at position 1, rank 1 has nothing; all servers must run",
        ),
        ([{"reducer": "other"}], "disagree on reducer: rank 0 has "),
        ([{"added": 3}], "disagree on added: rank 0 has None, rank 1 has 3"),
    ],
)
def test_the_first_difference_is_named_by_rank_and_key(
    others: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compare(*others)
    assert message in str(caught.value)


class Flags:
    """A group with one other server, which has the flags and the problem given."""

    def __init__(self, flags: list[int], problem: str | None = None) -> None:
        self.flags, self.problem = flags, problem

    def maximum(self, mine: Tensor) -> None:
        mine.copy_(torch.maximum(mine, torch.tensor(self.flags, dtype=mine.dtype)))

    def gather_objects(self, mine: str | None) -> list[str | None]:
        return [mine, self.problem]


CPU = torch.device("cpu")


def roll(other: Any, *, problem: str | None = None, stopping: bool = False) -> bool:
    return call_roll(other, CPU, problem=problem, stopping=stopping)


def test_the_roll_tells_whether_any_server_stops() -> None:
    assert not roll(Flags([0, 0]))
    assert roll(Flags([0, 1]))
    assert roll(Flags([0, 0]), stopping=True)


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [("lost", None, "server 0: lost"), (None, "lost", "server 1: lost"), ("a", "b", "server 0: a")],
)
def test_the_problem_of_any_server_is_raised_with_its_rank(
    mine: str | None, theirs: str | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        roll(Flags([int(theirs is not None), 0], theirs), problem=mine)


def test_any_server_counts() -> None:
    for mine, theirs in [(False, False), (True, False), (False, True)]:
        group: Any = Flags([int(theirs)])
        assert any_server(group, mine, CPU) == (mine or theirs)
