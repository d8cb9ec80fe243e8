from __future__ import annotations

import math

import pytest

from optinc import errors
from optinc.errors import NonFiniteGradientError, OptINCError


def test_every_error_is_of_the_family_and_says_in_its_docstring_what_it_is_for() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    ours = [cls for cls in classes if issubclass(cls, Exception)]
    assert len(ours) >= 10
    for cls in ours:
        assert issubclass(cls, OptINCError)
        assert cls.__doc__


@pytest.mark.parametrize(
    ("position", "parameter"), [(0, "first"), (2, "first"), (3, "second"), (4, "second")]
)
def test_the_parameter_of_a_flat_position_is_named(position: int, parameter: str) -> None:
    error = NonFiniteGradientError(server=2, position=position, value=math.inf)
    assert "parameter" not in str(error)
    # A parameter without values owns no position.
    named = error.with_parameter(["first", "empty", "second"], [3, 0, 2])
    assert named.parameter == parameter
    assert (named.server, named.position, named.value) == (2, position, math.inf)
    assert str(named) == (
        f"gradient of server 2 is inf at flat position {position}, parameter '{parameter}'; "
        "optinc.quantization.nonfinite accepts raise | skip_step | propagate"
    )


def test_a_position_beyond_the_gradient_is_an_error() -> None:
    error = NonFiniteGradientError(server=0, position=5, value=math.nan)
    with pytest.raises(IndexError, match="flat position 5 lies beyond the 5 gradient values"):
        error.with_parameter(["first", "second"], [3, 2])
