"""Errors that OptINC raises on purpose, all of one family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class OptINCError(Exception):
    """Base class of all errors that this package raises on purpose.

    Attributes:
        status: Exit status of the command that ends with this error.
    """

    status: ClassVar[int] = 2


class ConfigurationError(OptINCError, ValueError):
    """A setting or a combination of settings is illegal; names it and the legal values."""


class ArtifactError(OptINCError):
    """A stored ONN is damaged, inconsistent or does not belong to the requested scenario."""


class WrongInputsError(OptINCError):
    """An ONN is made and stored, but receives inputs wrong; names share, folder and remedy."""

    status = 3


class MissingONNError(OptINCError, LookupError):
    """No trained ONN exists for the requested scenario; names the command that trains one."""


class DatasetNotFoundError(OptINCError, FileNotFoundError):
    """A data set is missing; names the folder searched and the way to get the data."""


class NonFiniteGradientError(OptINCError, FloatingPointError):
    """A gradient holds NaN or infinity (quantiser policy ``raise``).

    Attributes:
        server: Index of the first server with a non-finite value.
        position: Index of that value in the server's flat gradient.
        value: The value itself (NaN, inf or -inf).
        parameter: Name of the parameter with this value, None if unknown.
    """

    def __init__(
        self, *, server: int, position: int, value: float, parameter: str | None = None
    ) -> None:
        self.server = server
        self.position = position
        self.value = value
        self.parameter = parameter
        where = f"flat position {position}"
        if parameter is not None:
            where += f", parameter '{parameter}'"
        super().__init__(
            f"gradient of server {server} is {value} at {where}; "
            "optinc.quantization.nonfinite accepts raise | skip_step | propagate"
        )

    def at(self, position: int) -> NonFiniteGradientError:
        """Return this error with another flat position."""
        return NonFiniteGradientError(server=self.server, position=position, value=self.value)

    def with_parameter(self, names: Sequence[str], sizes: Sequence[int]) -> NonFiniteGradientError:
        """Return this error with the name of the parameter at its flat position."""
        end = 0
        for name, size in zip(names, sizes, strict=True):
            end += size
            if self.position < end:
                return NonFiniteGradientError(
                    server=self.server, position=self.position, value=self.value, parameter=name
                )
        raise IndexError(f"flat position {self.position} lies beyond the {end} gradient values")


class SkipStep(OptINCError):
    """This optimiser step is to be skipped (quantiser policy ``skip_step``); control flow."""


class ServerLostError(OptINCError, RuntimeError):
    """A server died or does not answer; names it."""


class OutputError(OptINCError, OSError):
    """A file of the run cannot be written; names file and reason, and says what is intact."""


class CheckpointError(OptINCError):
    """A checkpoint to resume from is damaged or holds code; names the file and the reason."""


class DivergedError(OptINCError, FloatingPointError):
    """Too many steps in a row had no finite gradient; names the last checkpoint, if any."""
