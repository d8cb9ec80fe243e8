"""Two recipes to train the ONN of scenario 1 in the same time: the paper's (eq. 7, Adam) and ours.

    python -m experiments.recipes [--times 1 4] [--runs runs/recipes] [--record]

Ours is trained first, until no input is wrong. The paper's recipe then gets as many epochs as fit
into that time, or a multiple of it (``--times``): 70 % of them with the weighted symbols, the rest
with the reconstructed gradient. The paper gives neither the weights W_T nor the learning rate, so
both choices of ``onn_training.loss.symbol_weights`` and two rates are tried. One thread.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, save
from experiments.common.runs import ROOT, check_settings, run, summaries
from experiments.common.tables import Column, show

ONNS = {"dense": "none", "all layers": "all_layers"}
"""ONNs by their ``optinc/approximation``."""

WEIGHTS = ("uniform", "positional")
RATES = ("1e-3", "5e-3")

FIRST_STAGE = 0.7
"""Share of the epochs in the first stage of eq. (7), as in ``onn_training=paper``."""

TIMED_EPOCHS = 5

COLUMNS = [
    Column("ONN", "onn"),
    Column("recipe", "recipe"),
    Column("W_T", "weights"),
    Column("learning rate", "rate"),
    Column("time, over ours", "times", ".1f"),
    Column("epochs", "epochs", ".0f"),
    Column("seconds", "seconds", ".0f"),
    Column("wrong inputs", "wrong", ",.0f"),
    Column("of", "inputs", ",.0f"),
]

Row = dict[str, Any]


def train(folder: Path, approximation: str, *overrides: str) -> dict[str, Any]:
    """Train an ONN of scenario 1 on one thread, or read what an earlier start has trained.

    Raises:
        ConfigurationError: If that had other settings, such as the epochs of another time.
    """
    settings = [
        "task=train_onn",
        f"optinc/approximation={approximation}",
        *overrides,
        "trainer.enable_progress_bar=false",
        "resume=auto",
    ]
    if finished := summaries(ROOT / folder):
        check_settings(ROOT / folder, settings)
        return next(iter(finished.values()))
    return run(folder, *settings, threads=1, wrong_inputs=True)


def paper(*, epochs: int, weights: str, rate: str) -> list[str]:
    """Return the settings of the paper's recipe."""
    return [
        "onn_training=paper",
        "onn_training.optimizer=adam",
        f"onn_training.learning_rate={rate}",
        f"onn_training.max_epochs={epochs}",
        f"onn_training.loss.first_stage_epochs={round(FIRST_STAGE * epochs)}",
        f"onn_training.loss.symbol_weights={weights}",
    ]


def compare(onn: str, *, times: list[float], runs: Path) -> list[Row]:
    """Train an ONN by ours and by the paper's recipe.

    Args:
        onn: A key of :data:`ONNS`.
        times: Time that the paper's recipe gets, over that of ours.
        runs: Folder of the trainings; finished ones are not repeated.
    """
    approximation, folder = ONNS[onn], runs / ONNS[onn]
    ours = train(folder / "ours", approximation)
    trial = paper(epochs=TIMED_EPOCHS, weights=WEIGHTS[0], rate=RATES[0])
    timed = train(folder / "timed", approximation, *trial)
    epoch_seconds = timed["seconds"] / timed["epochs"]
    rows = [_row(onn, ours, recipe="ours", times=1.0)]
    for share, weights, rate in product(times, WEIGHTS, RATES):
        epochs = max(1, round(share * ours["seconds"] / epoch_seconds))
        summary = train(
            folder / f"paper-{share:g}-{weights}-{rate}",
            approximation,
            *paper(epochs=epochs, weights=weights, rate=rate),
        )
        rows.append(_row(onn, summary, recipe="eq. (7)", times=share, weights=weights, rate=rate))
    return rows


def _row(
    onn: str,
    summary: dict[str, Any],
    *,
    recipe: str,
    times: float,
    weights: str = "-",
    rate: str = "5e-3",
) -> Row:
    return {
        "onn": onn,
        "recipe": recipe,
        "weights": weights,
        "rate": rate,
        "times": times,
        "epochs": summary["epochs"],
        "seconds": summary["seconds"],
        "wrong": summary["wrong_inputs"],
        "inputs": summary["exhaustive_inputs"],
    }


def main() -> None:
    """Train what is missing, print the table, and write a row for every training."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--times",
        type=float,
        nargs="+",
        default=[1.0],
        help="time of the paper's recipe, relative to ours",
    )
    add_runs(parser, "runs/recipes")
    add_results(parser)
    arguments = parser.parse_args()
    if min(arguments.times) <= 0:
        parser.error(f"--times must be above 0, got {min(arguments.times):g}")
    rows = [row for onn in ONNS for row in compare(onn, times=arguments.times, runs=arguments.runs)]
    title = "Training by eq. (7) and by ours, in the same time, scenario 1"
    show(title, COLUMNS, rows)
    save(
        "recipes",
        title=title,
        source="eq. (7)",
        command=command_line("experiments.recipes"),
        rows=rows,
        notes=f"Eq. (7): {FIRST_STAGE:.0%} of the epochs in its first stage, Adam, one-cycle "
        "learning rate with the given peak, as ours (margin loss, Muon). One seed, one thread.",
        folder=arguments.results,
    )


if __name__ == "__main__":
    main()
