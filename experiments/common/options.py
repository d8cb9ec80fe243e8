"""Options of the commands: ``--results``, ``--runs``, and one for every field of a dataclass."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from experiments.common.record import RESULTS

T = TypeVar("T")


def command_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` keeps the line breaks of a module docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add ``--results``, the folder of data, provenance records and plots."""
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="folder of data, provenance and plots (default experiments/results)",
    )


def add_runs(
    parser: argparse.ArgumentParser, default: str | None, *, shown: str = "%(default)s"
) -> None:
    """Add ``--runs``, the folder of trainings and other jobs, which is made absolute.

    Args:
        parser: Parser of the command.
        default: Default folder; None where it follows from other options.
        shown: Default as the help names it.
    """
    parser.add_argument(
        "--runs",
        type=absolute,
        default=default,
        metavar="FOLDER",
        help=f"folder of the runs (default {shown})",
    )


def absolute(folder: str) -> Path:
    """Return an absolute path: jobs are started in another folder, the root of the repository."""
    return Path(folder).resolve()


def add_fields(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add an option for every field of a dataclass of numbers.

    The name has dashes for underscores; the help is the field's metadata.
    """
    for spec in fields(kind):
        parser.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=type(spec.default),
            default=spec.default,
            metavar="X",
            help=f"{spec.metadata['help']} (default %(default)s)",
        )


def from_fields(kind: type[T], arguments: argparse.Namespace) -> T:
    """Build the dataclass from the options that :func:`add_fields` added.

    Raises:
        ConfigurationError: If the dataclass refuses a value.
    """
    names = [spec.name for spec in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(arguments, name) for name in names})
