"""Options of the commands: folders, one for every field of a dataclass, and overrides of run.py."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from experiments.common.record import RECORD, RESULTS

T = TypeVar("T")

OWN_RESULTS = Path("runs/results")
"""Folder of results that are not recorded, below the current folder."""

OVERRIDE = re.compile(r"(\+{1,2}|~)?[\w@./]+=|~[\w@./]+$")
"""Overrides of run.py as Hydra writes them."""


def command_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` keeps the line breaks of a module docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add ``--results``, the folder of data, provenance records and plots, and ``--record``.

    Only ``--record`` writes into the results that the repository keeps, and the report shows.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--results",
        type=Path,
        default=OWN_RESULTS,
        metavar="FOLDER",
        help="folder of data, provenance and plots (default %(default)s)",
    )
    group.add_argument(
        RECORD,
        action="store_const",
        dest="results",
        const=RESULTS,
        help="write into experiments/results, which the repository keeps",
    )


def parse_with_overrides(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, list[str]]:
    """Parse options, and overrides of run.py, which may stand anywhere among them.

    Args:
        parser: Parser of the options.
        arguments: The arguments; None for those of this process.

    Returns:
        Options and overrides. Overrides are ``KEY=VALUE`` and ``~KEY``; what is neither one nor an
        option is refused.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    overrides = [argument for argument in arguments if OVERRIDE.match(argument)]
    options = [argument for argument in arguments if not OVERRIDE.match(argument)]
    return parser.parse_args(options), overrides


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
    """Add an option for every field of a dataclass of numbers and words.

    The name has dashes for underscores; help, and the words to choose from, are the field's
    metadata.
    """
    for spec in fields(kind):
        parser.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=type(spec.default),
            default=spec.default,
            choices=spec.metadata.get("choices"),
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
