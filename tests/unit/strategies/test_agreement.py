from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.agreement import agree, describe_parameters
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
            "disagree on parameters: rank 0 has 2 of them, rank 1 has 1; all servers must run",
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
