"""Build one HTML page of all results, the paper's values beside ours.

    python -m experiments.report [--results experiments/results] [--output FILE]

The page needs no network and no other file. Results that are missing show the command that makes
them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.record import RESULTS, MalformedResultError
from experiments.report.page import build


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--output", type=Path, help="the page; default RESULTS/report.html")
    arguments = parser.parse_args()
    results: Path = arguments.results
    if not results.is_dir():
        parser.error(f"--results must be a folder, got {results}")
    output: Path = arguments.output or results / "report.html"
    try:
        page = build(results)
    except MalformedResultError as error:
        raise SystemExit(f"report: {error}") from None
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(f"Report: {output}")


if __name__ == "__main__":
    main()
