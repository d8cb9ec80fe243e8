from __future__ import annotations

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.reducers.senders.error_feedback import ErrorFeedback


def feedback(errors: list[list[float]]) -> ErrorFeedback:
    """Error feedback with these errors [N, P]."""
    found = ErrorFeedback()
    found.load({"error": torch.tensor(errors)})
    found.begin(len(errors), len(errors[0]), torch.device("cpu"))
    return found


def test_errors_are_added_and_replaced() -> None:
    errors = feedback([[0.5, -0.25, 0.0], [1.0, 1.0, 1.0]])
    rows = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    errors.add(rows, [slice(0, 3)], first=0)
    assert rows.tolist() == [[1.5, 0.75, 1.0], [1.0, 1.0, 3.0]]
    errors.settle(torch.full((2, 3), 0.125), first=0)
    assert errors.state()["error"].tolist() == [[0.5, -0.25, 0.0], [1.0, 1.0, 1.0]]
    errors.commit()
    assert errors.state()["error"].tolist() == [[0.125] * 3] * 2


def test_a_server_without_a_gradient_for_a_parameter_keeps_its_errors_there() -> None:
    errors = feedback([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]])
    rows = torch.tensor([[0.0, 0.0, 1.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    errors.add(rows, [slice(0, 2), slice(2, 4)], first=0)
    assert rows.tolist() == [[0.0, 0.0, 1.5, 0.5], [2.25, 0.25, 0.0, 0.0]]
    errors.settle(torch.zeros(2, 4), first=0)
    errors.commit()
    assert errors.state()["error"].tolist() == [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.25]]


def test_parts_count_together_once_they_are_committed() -> None:
    errors = feedback([[1.0, 2.0, 3.0, 4.0]])
    for first in (2, 0):
        rows = torch.ones(1, 2)
        errors.add(rows, [slice(0, 2)], first=first)
        assert rows.tolist() == [[first + 2.0, first + 3.0]]
        errors.settle(rows / 10, first=first)
    # As if a step was skipped: the next one begins with the errors that were.
    errors.begin(1, 4, torch.device("cpu"))
    again = torch.ones(1, 2)
    errors.add(again, [slice(0, 2)], first=0)
    assert again.tolist() == [[2.0, 3.0]]
    errors.settle(torch.tensor([[0.1, 0.2]]), first=0)
    errors.commit()
    assert torch.allclose(errors.state()["error"], torch.tensor([[0.1, 0.2, 0.4, 0.5]]))


def test_errors_of_other_servers_or_parameters_are_refused() -> None:
    errors = feedback([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ConfigurationError, match="2 servers with 2 values, but 3 servers with 2"):
        errors.begin(3, 2, torch.device("cpu"))
    errors.forget()
    errors.begin(3, 5, torch.device("cpu"))
    assert errors.held == 3
    assert errors.state()["error"].abs().sum() == 0


def test_there_is_no_state_before_the_first_reduction() -> None:
    errors = ErrorFeedback()
    assert errors.held is None
    assert errors.state() == {}
    errors.load({})
    assert errors.held is None
