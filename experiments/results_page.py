"""Write ``docs/results.md`` and the README's table of results, from the recorded results.

    python -m experiments.results_page

Every number of both comes from ``experiments/results``, ``benchmarks/results`` or the cards of the
shipped ONNs. After a result is recorded anew, run this command to update them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.common.arms import arm_name
from experiments.common.options import command_parser
from experiments.common.record import RESULTS, Result, Row
from experiments.common.tables import Column, markdown, note
from experiments.headlines import BENCHMARKS, COLUMNS, headlines, needed

ROOT = RESULTS.parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"

BEGIN, END = "<!-- results: python -m experiments.results_page -->\n", "<!-- end of results -->\n"
"""Marks before and behind the table in the README."""

Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        title: Heading.
        name: Name of the result.
        columns: Its columns that are shown, and the format of each; text where it is ``s``.
        chosen: Selects the rows that are shown.
        text: Text above the table.
    """

    title: str
    name: str
    columns: Mapping[str, str]
    chosen: Callable[[Rows], Rows] = lambda rows: rows
    text: str = ""


def having(**cells: str | tuple[str, ...]) -> Callable[[Rows], Rows]:
    """Return a choice of the rows in which each of these columns has one of these values."""
    wanted = {
        name.replace("_", " "): (value,) if isinstance(value, str) else value
        for name, value in cells.items()
    }
    return lambda rows: [row for row in rows if all(row[key] in wanted[key] for key in wanted)]


def means(*, by: str, over: str, of: Sequence[str]) -> Callable[[Rows], Rows]:
    """Return a choice of one row for every value of ``by``: the means of ``of`` over ``over``."""

    def chosen(rows: Rows) -> Rows:
        found = []
        for name in dict.fromkeys(row[by] for row in rows):
            of_name = [row for row in rows if row[by] == name]
            means = {
                column: str(sum(float(row[column]) for row in of_name) / len(of_name))
                for column in of
            }
            count = str(len({row[over] for row in of_name}))
            found.append({**of_name[0], **means, f"{over}s": count})
        return found

    return chosen


def beside_exact(rows: Rows, *, value: str = "value", of: Sequence[str] = ()) -> Rows:
    """Return the means of every arm, and of its differences from exact averaging, seed by seed.

    An arm with fewer seeds is compared with those of exact averaging alone: seeds differ by more
    than arms do.
    """
    exact = {row["seed"]: float(row[value]) for row in rows if row["arm"] == "ring"}
    shown = []
    for mean in means(by="arm", over="seed", of=(value, *of))(rows):
        differences = [
            float(row[value]) - exact[row["seed"]]
            for row in rows
            if row["arm"] == mean["arm"] != "ring" and row["seed"] in exact
        ]
        difference = str(fmean(differences)) if differences else ""
        shown.append({**mean, "minus exact": difference})
    return shown


SMOKE = (
    "Smoke runs show that training works, and say nothing about the paper's accuracies. Values are "
    "means over the seeds of each arm."
)

TABLE = {
    "bits": "s",
    "servers": "s",
    "layers approximated": "s",
    "paper accuracy %": "s",
    "accuracy %": "s",
    "wrong inputs": "s",
    "made by": "s",
    "trained wrong": "s",
    "trained s": "s",
    "constructed wrong": "s",
    "paper area %": "s",
    "area %": "s",
    "MZIs": ",.0f",
}
FIG7A = {
    "arm": "s",
    "seeds": "s",
    "metric": "s",
    "value": ".4f",
    "minus exact": "+.4f",
    "steps": ",.0f",
}
COMPARED = {
    "model": "s",
    "arm": "s",
    "minus": "s",
    "seeds": "s",
    "mean": ".4f",
    "difference": "+.4f",
    "low": "+.4f",
    "high": "+.4f",
    "smallest seen": ".4f",
}
FEW_BITS = {
    "model": "s",
    "arm": "s",
    "seeds": "s",
    "mean": ".4f",
    "difference": "+.4f",
    "low": "+.4f",
    "high": "+.4f",
    "target": "s",
    "reached": "s",
}
WIRE = {
    "link": "s",
    "servers": "s",
    "gradient": "s",
    "arm": "s",
    "step": ".3f",
    "alone": ".3f",
    "faster": ".2f",
    "hidden": ".0%",
    "link_seconds": ".3f",
    "per_value": ".3f",
}
NETWORKS = having(gradient=("resnet50", "llama", "mlp"))

SECTIONS = (
    Section("Table I", "table1", TABLE),
    Section("Table II", "table2", TABLE),
    Section(
        "Training by eq. (7) and by ours, in the same time",
        "recipes",
        {
            "onn": "s",
            "recipe": "s",
            "weights": "s",
            "rate": "s",
            "times": ".3g",
            "epochs": ",.0f",
            "seconds": ".0f",
            "wrong": ",.0f",
            "inputs": ",.0f",
        },
        text="Scenario 1. weights: W_T of eq. (7), which the paper does not give, as it does not "
        "give the learning rate (rate: its peak). times: planned time over that of ours, by the "
        "seconds of an epoch; some trainings ran beside others, which made their epochs longer.",
    ),
    Section(
        "Inputs received right under noise",
        "noise",
        {
            "ONN": "s",
            "MZIs": ",.0f",
            "optical depth": "s",
            **dict.fromkeys(("0 %", "0.1 %", "0.2 %", "0.5 %", "1 %"), ".2f"),
        },
    ),
    Section(
        "Traffic (Fig. 6)",
        "fig6",
        {"model": "s", "servers": "s", "method": "s", "over_gradient": ".4f", "paper": "s"},
        having(servers=("4", "8", "16"), method=("ring", "OptINC", "OptINC, float32 scales")),
    ),
    Section(
        "Time of a step, modelled (Fig. 7b)",
        "fig7b",
        {
            "workload": "s",
            "batch": ".2f",
            "unit": "s",
            "batch_is": "s",
            "step_us": ".1f",
            "saving": ".1%",
            "paper_saving": "s",
        },
        having(method="optinc"),
    ),
    Section(
        "ResNet50 (Fig. 7a), on two cores",
        "fig7a_resnet50_cpu",
        FIG7A,
        beside_exact,
        "5 epochs of the paper's 300. The 10,000 test images alone give each accuracy a standard "
        "error of 0.005, so these differences from exact averaging may be chance.",
    ),
    Section(
        "LLaMA (Fig. 7a), on two cores",
        "fig7a_llama_cpu",
        FIG7A,
        beside_exact,
        "WikiText-2, 1,500 steps of 8 sequences. One seed: these differences from exact averaging "
        "may be chance. The seconds of exact averaging are those of about its last 950 steps.",
    ),
    Section("ResNet50 (Fig. 7a), smoke", "fig7a_resnet50_smoke", FIG7A, beside_exact, SMOKE),
    Section("LLaMA (Fig. 7a), smoke", "fig7a_llama_smoke", FIG7A, beside_exact, SMOKE),
    Section("Small trainings, paired by seeds", "significance", COMPARED),
    Section("Few bits", "few_bits", FEW_BITS),
    Section(
        "Cascades: accuracy (Sec. III-C)",
        "cascade_accuracy",
        {"ONNs": "s", "what": "s", "inputs": ",.0f", "wrong": ",.0f", "smallest margin": ".3f"},
    ),
    Section(
        "Cascades: interferometers",
        "cascade_area",
        {
            "ONNs": "s",
            "level": "s",
            "structure": "s",
            "MZIs": ",.0f",
            "overhead %": ".2f",
            "paper overhead %": "s",
        },
    ),
    Section(
        "Cascades: quantising at every level (eq. 9) or at the top (eq. 10)",
        "cascade_training",
        {
            "arm": "s",
            "seeds": "s",
            "loss": ".4f",
            "minus exact": "+.4f",
            "differing %": ".2f",
            "quantisation error %": ".2f",
        },
        partial(beside_exact, value="loss", of=("differing %", "quantisation error %")),
    ),
    Section(
        "Chips that work",
        "buildable",
        {
            "design": "s",
            "technology": "s",
            "calibration": "s",
            "devices": ",.0f",
            "chips": "s",
            "yield %": ".0f",
            "right %": ".2f",
            "pJ/bit": ".0f",
            "mm^2": ".1f",
        },
        having(technology="target"),
        "[Can it be built?](can_it_be_built.md) has more technologies, and conclusions.",
    ),
    Section(
        "Rates of one wrong bit at which training gets worse",
        "buildable_noticed",
        {"model": "s", "bit": "s", "seeds": "s", "not noticed up to": "s", "noticed from": "s"},
    ),
    Section("Processes over links of a given speed", "wire", WIRE, NETWORKS),
    Section(
        "Four processes, gradients of any size",
        "wire_4_sizes",
        {
            "link": "s",
            "servers": "s",
            "gradient": "s",
            "arm": "s",
            "alone": ".4f",
            "faster": ".2f",
            "link_seconds": ".4f",
            "per_value": ".3f",
        },
        text="Exchanges of flat gradients, nothing is trained. Two cores serve all four processes. "
        "Gradients of up to 1 MB take 2.0 to 3.5 times as long as with torch's DDP, since the "
        "exchange has three collectives in place of one. From 10 MB on over 1 Gb/s, and from "
        "100 MB on over 10 Gb/s, they take less.",
    ),
    Section(
        "Eight processes over links of a given speed",
        "wire_8_servers",
        WIRE,
        NETWORKS,
        "Eight processes share two cores, so that none is idle while codes are on their way, and "
        "`hidden` is noise of three rounds. Flat gradients of up to 1 MB take 1.7 to 2.7 times as "
        "long as with torch's DDP, since the exchange has three collectives in place of one.",
    ),
    Section(
        "Time to reduce a gradient",
        "reduce",
        {
            "servers": "s",
            "reducer": "s",
            "runs_as": "s",
            "nanoseconds": ".2f",
            "ratio": ".2f",
        },
        having(gradient="resnet50"),
    ),
    Section(
        "Time of a step of an ONN's training",
        "muon",
        {
            "scenario": "s",
            "passes": ".1f",
            "theirs": ".1f",
            "ours": ".1f",
            "ratio": ".1f",
            "step_ratio": ".1f",
        },
        text="Milliseconds, batches of 1,024. passes: forward and backward; theirs: torch's Muon, "
        "in bfloat16; ours: the same in float32; ratio: of both; step_ratio: of whole steps.",
    ),
    Section(
        "The same on a processor with AVX-512",
        "muon_avx512",
        {
            "scenario": "s",
            "passes": ".1f",
            "theirs": ".1f",
            "ours": ".1f",
            "step_ratio": ".1f",
            "off": ".1f",
            "denormal": ".1f",
            "off_ratio": ".1f",
        },
        text="off: ours, with a quarter of the neurons off, whose momentum has decayed to denormal "
        "numbers; denormal: the same without taking these for 0; off_ratio: of both.",
    ),
    Section(
        "Time of a training step",
        "step",
        {"model": "s", "servers": "s", "batch": "s", "baseline": "s", "more": "+.1%"},
    ),
)
"""Tables of the page, in its order; one whose result is not here is left out."""

HEAD = """# Results

<!-- Written by `python -m experiments.results_page`: a change by hand would be lost. -->

All numbers come from results that the repository keeps. Each table names the command that made it.
`make report` writes a page with plots and more results.

"""


def page(results: Path = RESULTS, benchmarks: Path = BENCHMARKS) -> str:
    """Return ``docs/results.md``.

    Args:
        results: Results of experiments.
        benchmarks: Results of benchmarks.

    Raises:
        MalformedResultError: If a result is damaged, or one of the first table is missing.
    """
    first = ["## Summary", "", *_headline_table(results, benchmarks), ""]
    parts = [_section(section, results, benchmarks) for section in SECTIONS]
    return HEAD + "\n".join([*first, *(line for part in parts for line in part)])


def with_table(readme: str, results: Path = RESULTS, benchmarks: Path = BENCHMARKS) -> str:
    """Return the README with its table written anew.

    Raises:
        ValueError: If it has no place for the table.
    """
    table = "\n".join(_headline_table(results, benchmarks)) + "\n"
    text, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END),
        lambda _: f"{BEGIN}{table}{END}",
        readme,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"README.md must hold {BEGIN.strip()} and {END.strip()} once")
    return text


def _headline_table(results: Path, benchmarks: Path) -> list[str]:
    return markdown(COLUMNS, [headline.row() for headline in headlines(results, benchmarks)])


def _section(section: Section, results: Path, benchmarks: Path) -> list[str]:
    """Return the lines of a section; none without its result."""
    measured = (benchmarks / f"{section.name}.csv").is_file()
    folder = benchmarks if measured else results
    if not (folder / f"{section.name}.csv").is_file():
        return []
    result = needed(section.name, folder)
    rows = section.chosen(result.rows)
    shown = [_numbers(row, section.columns) for row in rows]
    columns = [Column(key.replace("_", " "), key, form) for key, form in section.columns.items()]
    origin = _benchmark(result, folder) if measured else _experiment(result)
    return [
        f"## {section.title}",
        "",
        *([section.text, ""] if section.text else []),
        *markdown(columns, shown),
        "",
        origin,
        "",
    ]


def _numbers(row: Mapping[str, str], columns: Mapping[str, str]) -> Row:
    """Return the cells that are shown, as numbers where they have a format; none where empty."""
    shown: dict[str, str | float | None] = {}
    for key, form in columns.items():
        cell = row[key]
        if not cell:
            shown[key] = None
        elif form == "s":
            shown[key] = arm_name(cell) if key in ("arm", "minus") else cell
        else:
            shown[key] = float(cell)
    return shown


def _experiment(result: Result) -> str:
    """Return the line that names command, commit and hardware of a result."""
    origin: dict[str, Any] = result.origin
    source = f"{origin['source']}. " if origin["source"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    made = f"{origin['date']}, commit {origin['commit']}, {origin['hardware']}, {versions}"
    notes = f" {origin['notes']}" if origin["notes"] else ""
    return f"*{source}`{origin['command']}`, {made}.*{notes}"


def _benchmark(result: Result, folder: Path) -> str:
    """Return the line of the benchmark's own page that names its command and hardware."""
    text = (folder / f"{result.name}.md").read_text(encoding="utf-8")
    made = next(line for line in text.splitlines() if line.startswith("`python "))
    name = f"../benchmarks/results/{result.name}.md"
    return f"*{made}* [{result.name}.md]({name}) has all rows and explains them."


def main() -> None:
    """Write both files."""
    command_parser(__doc__).parse_args()
    readme = README.read_text(encoding="utf-8")
    for path, text in ((PAGE, page()), (README, with_table(readme))):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            note(f"{path.relative_to(ROOT)} is new")


if __name__ == "__main__":
    main()
