"""Fields of a dataclass of numbers as options of a command."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add an option for every field: its name with dashes, its default, its metadata as help."""
    for spec in fields(kind):
        parser.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=type(spec.default),
            default=spec.default,
            metavar="X",
            help=f"{spec.metadata['help']} (default %(default)s)",
        )


def from_options(kind: type[T], arguments: argparse.Namespace) -> T:
    """Build the dataclass from parsed options.

    Raises:
        ConfigurationError: If the dataclass refuses a value.
    """
    names = [spec.name for spec in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(arguments, name) for name in names})
