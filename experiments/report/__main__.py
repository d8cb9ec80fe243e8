"""Build one HTML page of all results, the paper's values beside ours.

    python -m experiments.report [--results experiments/results] [--output FILE]
    python -m experiments.report --wandb optinc [--online]

The page needs no network and no other file. A missing result shows the command that makes it;
your own results are in runs/results: ``--results runs/results`` shows them.
--wandb also stores the page as an artifact of Weights & Biases; upload it with `wandb sync`.
"""

from __future__ import annotations

from pathlib import Path

from experiments.common.options import command_parser
from experiments.common.record import RESULTS, MalformedResultError
from experiments.report.page import build
from optinc.errors import ConfigurationError


def main() -> None:
    """Write the page."""
    parser = command_parser(__doc__)
    parser.prog = "python -m experiments.report"
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="folder of the results (default experiments/results, which the repository keeps)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default RESULTS/report.html)"
    )
    parser.add_argument("--wandb", metavar="PROJECT", help="store the page in a project of W&B")
    parser.add_argument("--online", action="store_true", help="upload at once; needs an account")
    arguments = parser.parse_args()
    results: Path = arguments.results
    if not results.is_dir():
        parser.error(f"--results must be a folder, got {results}")
    if arguments.online and not arguments.wandb:
        parser.error("--online needs --wandb PROJECT")
    output: Path = arguments.output or results / "report.html"
    try:
        page = build(results)
    except MalformedResultError as error:
        raise SystemExit(f"report: {error}") from None
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(f"Report: {output}")
    if arguments.wandb:
        # Lightning takes seconds to import, and the page does not need it.
        from experiments.report.tracking import log_page  # noqa: PLC0415

        try:
            print(f"W&B: {log_page(output, project=arguments.wandb, online=arguments.online)}")
        except ConfigurationError as error:
            raise SystemExit(f"report: {error}") from None


if __name__ == "__main__":
    main()
