"""Light in the report: link budgets, and effects of drawn chips."""

from __future__ import annotations

from pathlib import Path

from experiments.common.arms import onn_colours, onn_name
from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, absent, points, shown
from experiments.report.sentences import counted, listed

BUDGET_COLUMNS = (
    *("ONN", "chip", "chain dB", "noise %", "borne %", "levels at unit P", "levels needed"),
    *("dBm needed", "pJ/bit", "verdict"),
)
SHOWN_LAYERS = "b8_n4_half_even_robust"
"""ONN whose layers are plotted: the one that bears most noise."""

BY_LEVELS = "Inputs received right, %, without an ONN, with comparators in one, and with one"

HARDWARE = {
    "mesh": "a mesh",
    "crossbar_fields": "a crossbar of fields",
    "crossbar_intensities": "a crossbar of intensities",
}

EFFECTS = {"rin": "relative intensity noise", "mzi_loss_spread": "spread of the loss of MZIs"}
"""Names of effects that need one."""

SHOWN_EFFECTS = {
    "coupler_error": "x",
    "phase_error": "x",
    "crosstalk": "x",
    "mzi_loss_spread": "x",
    "server_imbalance": "x",
    "rin": "",
}
"""Effects that are plotted, and their logarithmic axes; all of them are in the table."""


def link_budget(folder: Path) -> Section:
    """Return light from laser to receiver, by ONN and technology."""
    key, title, paper = "link_budget", "Light from laser to receiver", "not given"
    result = read("link_budget", folder=folder)
    if result is None:
        command = "python -m experiments.link_budget"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require(*BUDGET_COLUMNS)
    stages = read("link_budget_stages", folder=folder)
    direct = read("direct_receivers", folder=folder)
    possible = [row for row in result.rows if row["verdict"].startswith("possible")]
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=f"{len(possible)} of {len(result.rows)} switches have light enough"
        + (f". {_cheapest(result, possible)}" if possible else ""),
        state="modelled",
        tables=[
            shown(
                "Verdicts: noise is that of the noisiest detector",
                result,
                BUDGET_COLUMNS,
                ONN=onn_name,
            ),
            *([] if direct is None else [shown(BY_LEVELS, direct)]),
        ],
        plots=[_energy_plot(result), *([] if stages is None else [_layer_plot(stages)])],
        results=[result, *(each for each in (stages, direct) if each is not None)],
    )


def _cheapest(result: Result, possible: list[dict[str, str]]) -> str:
    """Name the switch with light enough that needs least energy."""
    least = min(possible, key=lambda row: result.number(row, "pJ/bit"))
    return (
        f"Least energy, {least['pJ/bit']} pJ/bit, takes “{onn_name(least['ONN'])}” in "
        f"“{_words(least['chip'])}”"
    )


def crossbar(folder: Path) -> Section:
    """Return crossbars beside meshes: parts, energy, area, and what each bears."""
    key, title, paper = "crossbar", "Crossbars in place of meshes", "not given"
    result = read("crossbar", folder=folder)
    if result is None:
        command = "python -m experiments.crossbar"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require("ONN", "hardware", "MZIs", "right %, 0.01 rad", "right %, target")
    rows = [row for row in result.rows if row["ONN"] == SHOWN_LAYERS] or result.rows
    right = listed(
        [
            f"{row['right %, target']} % as {HARDWARE.get(row['hardware'], row['hardware'])} "
            f"({row['MZIs']} MZIs)"
            for row in rows
        ]
    )
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=f"With the errors of optinc/chip=target, uncalibrated, the ONN "
        f"{onn_name(rows[0]['ONN'])} receives of its inputs right: {right}",
        state="measured",
        tables=[
            shown("Parts, costs, and inputs that drawn chips receive right", result, ONN=onn_name)
        ],
        results=[result],
    )


def _words(setting: str) -> str:
    return setting.replace("_", " ")


def _energy_plot(result: Result) -> Plot:
    chips = list(dict.fromkeys(row["chip"] for row in result.rows))
    of_chip = {chip: [row for row in result.rows if row["chip"] == chip] for chip in chips}
    series = {
        _words(chip): (
            [result.number(row, "noise %") / result.number(row, "borne %") for row in rows],
            [result.number(row, "pJ/bit") for row in rows],
        )
        for chip, rows in of_chip.items()
    }
    labels = {
        _words(chip): [f"{onn_name(row['ONN'])}: {row['verdict']}" for row in rows]
        for chip, rows in of_chip.items()
    }
    return Plot(
        "Energy of a bit against noise over the noise borne: below 1 a switch works",
        plots.scatter(series, labels, x="noise / borne", y="pJ/bit", logarithmic="xy"),
    )


def _layer_plot(stages: Result) -> Plot:
    stages.require("ONN", "chip", "segment", "SNR dB")
    rows = [row for row in stages.rows if row["ONN"] == SHOWN_LAYERS]
    series = {
        _words(chip): [stages.number(row, "SNR dB") for row in rows if row["chip"] == chip]
        for chip in dict.fromkeys(row["chip"] for row in rows)
    }
    return Plot(
        f"Signal over noise at the detectors of every layer of {onn_name(SHOWN_LAYERS)}, dB",
        plots.lines(
            {chip: (list(range(1, len(snr) + 1)), snr) for chip, snr in series.items()},
            x="layer",
            y="SNR, dB",
            markers=True,
        ),
    )


def nonidealities(folder: Path) -> Section:
    """Return what drawn chips receive right, by effect and level."""
    key, title = "nonidealities", "What a chip's imperfections cost"
    paper = "left to future work"
    result = read("nonidealities", folder=folder)
    limits = read("nonidealities_limits", folder=folder)
    if result is None or limits is None:
        command = "python -m experiments.nonidealities"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require("ONN", "effect", "unit", "level", "right %")
    limits.require("effect", "unit")
    together = read("nonidealities_presets", folder=folder)
    found = [result, limits, together]
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=_all_at_once(together)
        if together is not None
        else f"Each effect is swept alone, {counted(len(limits.rows), 'effect')} in all",
        state="measured",
        tables=[
            shown(
                "Level of each effect, alone, at which inputs are lost; values of presets", limits
            )
        ],
        plots=[
            _effect_plot(result, effect, logarithmic)
            for effect, logarithmic in SHOWN_EFFECTS.items()
            if any(row["effect"] == effect for row in result.rows)
        ],
        results=[each for each in found if each is not None],
    )


def _all_at_once(together: Result) -> str:
    """Return the best design under all effects of each preset."""
    together.require("ONN", "preset", "right %")
    best = {}
    for preset in dict.fromkeys(row["preset"] for row in together.rows):
        rows = [row for row in together.rows if row["preset"] == preset]
        best[preset] = max(rows, key=lambda row: together.number(row, "right %"))
    shares = [
        f"{together.number(row, 'right %'):.3g} % ({_words(name)})" for name, row in best.items()
    ]
    return (
        "With all effects of a preset at once, uncalibrated, even the best design receives of its "
        f"inputs right: {listed(shares)}"
    )


def _effect_plot(result: Result, effect: str, logarithmic: str) -> Plot:
    rows = [row for row in result.rows if row["effect"] == effect and row["level"] != "inf"]
    series = {
        onn_name(name): points(
            result, [row for row in rows if row["ONN"] == name], "level", "right %"
        )
        for name in dict.fromkeys(row["ONN"] for row in rows)
    }
    styles = {name: (colour, 0) for name, colour in onn_colours(series).items()}
    words = EFFECTS.get(effect, _words(effect))
    unit = rows[0]["unit"]
    return Plot(
        f"Inputs received right against {words} alone, mean over the chips",
        plots.lines(
            series,
            x=words if unit in ("", "1") else f"{words}, {unit}",
            y="right, %",
            logarithmic=logarithmic,
            markers=True,
            styles=styles,
        ),
    )
