"""The entry point behind ``run.py``, the ``optinc`` command and ``python -m optinc``.

torch and Lightning are imported only once a task begins: help, the version and misspelt settings
are answered without them.
"""

from __future__ import annotations

import io
import sys
import textwrap
from contextlib import redirect_stdout
from typing import Any

import hydra
from omegaconf import DictConfig

import optinc
from optinc.errors import ConfigurationError, OptINCError
from optinc.runs.processes import process_rank
from optinc.tasks.announcements import closing_lines, opening_lines
from optinc.tasks.prepared import as_hydra_takes_them, refuse_dotted_groups
from optinc.tasks.repeated_settings import with_stored_settings
from optinc.tasks.schema import COLUMNS, register
from optinc.tasks.stopping import install_sigterm, stopped_message, stopping_signal
from optinc.tasks.unknown_settings import conf_dir

CONF = conf_dir()

register()


def run(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the configuration and run its task, see :func:`optinc.tasks.one_run.one_run`.

    Args:
        cfg: The composed configuration.

    Returns:
        The metrics written to ``summary.json``, and the objects that were built.

    Raises:
        OptINCError: If a setting is illegal or something it names is missing.
    """
    from optinc.tasks.one_run import one_run  # noqa: PLC0415  (torch and Lightning: seconds)

    return one_run(cfg)


def objective(cfg: DictConfig, metrics: dict[str, Any]) -> float | None:
    """Return the value that a sweeper optimises, None if the task has no such value.

    Raises:
        ConfigurationError: If it was asked for and is no number of the summary.
    """
    value = metrics.get(cfg.objective)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if cfg.objective == "val_loss":
        return None
    numbers = [name for name, each in metrics.items() if isinstance(each, int | float)]
    raise ConfigurationError(
        f"objective must be a number of summary.json ({' | '.join(numbers)}), got {cfg.objective}"
    )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> float | None:
    """Run one job of Hydra, and return what its sweeper optimises."""
    install_sigterm()
    first = process_rank() == 0
    try:
        if first:
            print(*opening_lines(cfg), sep="\n", flush=True)
        metrics, _ = run(cfg)
        if first:
            print(*closing_lines(cfg, metrics), sep="\n", flush=True)
        return objective(cfg, metrics)
    except OptINCError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.status) from error
    except (KeyboardInterrupt, SystemExit) as error:
        stopped_by = stopping_signal(error)
        if stopped_by is None:
            raise
        if first:
            print(stopped_message(stopped_by, cfg), file=sys.stderr)
        raise SystemExit(128 + stopped_by) from error


def main() -> None:
    """Run the jobs of the command line.

    An error raised on purpose is printed as one line, and the exit status is its own: 2, or 3 for
    an ONN that is stored but receives inputs wrong. It is 143 after SIGTERM, and 130 after Ctrl-C.
    """
    if "--version" in sys.argv[1:]:
        # Hydra's own option would print the version of Hydra.
        print(f"optinc {optinc.__version__}")
        return
    try:
        sys.argv[1:] = as_hydra_takes_them(sys.argv[1:])
        refuse_dotted_groups(sys.argv[1:])
        sys.argv[1:] = with_stored_settings(sys.argv[1:])
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if {"--help", "-h"}.isdisjoint(sys.argv[1:]):
        _job()
        return
    page = io.StringIO()
    try:
        with redirect_stdout(page):
            _job()
    finally:
        # Hydra ends the process behind its page.
        print(*help_lines(page.getvalue()), sep="\n")


def help_lines(page: str) -> list[str]:
    """Return Hydra's help page in lines that fit a terminal: it lists a group's options in one."""
    return [
        short
        for line in page.splitlines()
        for short in textwrap.wrap(line, COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
        or [""]
    ]


if __name__ == "__main__":
    main()
