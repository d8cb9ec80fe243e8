"""Drawn chips in the report: what they bear, by design, by construction and by training."""

from __future__ import annotations

from pathlib import Path

from experiments.common.arms import onn_colours, onn_name
from experiments.common.record import read
from experiments.report import plots
from experiments.report.content import Plot, Section, absent, shown
from experiments.report.sentences import counted

COUPLERS = "couplers, rad, 99.9 %"
TARGET = "target chip, right %"


def imperfections(folder: Path) -> Section:
    """Return what single errors of parts cost, beside first estimates."""
    key, title = "imperfections", "What single errors of a chip cost"
    result = read("imperfections", folder=folder)
    if result is None:
        return _absent(key, title)
    result.require("ONN", "effect", "right %", "chips", "first estimate %", "agrees")
    compared = [row for row in result.rows if row["agrees"]]
    agree = sum(row["agrees"] == "yes" for row in compared)
    return Section(
        key=key,
        source="",
        title=title,
        paper="not given",
        ours=f"Chips drawn with one kind of error lose what first estimates said in {agree} of "
        f"{len(compared)} cases",
        state="measured",
        tables=[shown("Inputs received right by drawn chips, %", result)],
        results=[result],
    )


def restoring(folder: Path) -> Section:
    """Return the forms of the restoring construction, and 16 bits with eight ONN inputs."""
    key, title = "restoring", "Constructions that restore their levels"
    result = read("restoring", folder=folder)
    if result is None:
        return _absent(key, title)
    result.require("form", "attenuators", "noise 1 %", "crossbar 0.01 rad, leak -30 dB")
    bearing = "crossbar 0.01 rad, leak -30 dB"
    best = max(result.rows, key=lambda row: result.number(row, bearing))
    wide = read("restoring_16_bits", folder=folder)
    return Section(
        key=key,
        source="",
        title=title,
        paper="not given",
        ours=f"With phases off by 0.01 rad and ReLUs that leak -30 dB, the best form "
        f"({best['form'].replace('_', ' ')}, {best['attenuators']} attenuators) receives "
        f"{result.number(best, bearing):.4g} % of the inputs right",
        state="measured",
        tables=[
            shown("Scenario 1, inputs received right, %", result),
            *([] if wide is None else [shown("16 bits, 4 servers, by noise", wide)]),
        ],
        results=[each for each in (result, wide) if each is not None],
    )


def error_frontier(folder: Path) -> Section:
    """Return devices against tolerated errors, of ONNs trained with and without chips."""
    key, title = "error_frontier", "Devices against tolerated errors"
    result = read("error_frontier", folder=folder)
    if result is None:
        return _absent(key, title)
    result.require("ONN", "through chips", "hardware", "devices", COUPLERS, TARGET)
    best = max(result.rows, key=lambda row: result.number(row, TARGET))
    # An ONN that tolerates nothing has no place on a logarithmic axis.
    tolerant = [row for row in result.rows if row[COUPLERS] and result.number(row, COUPLERS)]
    series = {
        onn_name(row["ONN"]): (
            [result.number(row, "devices")],
            [result.number(row, COUPLERS)],
        )
        for row in tolerant
    }
    labels = {onn_name(row["ONN"]): [f"{row['ONN']} on {row['hardware']}"] for row in tolerant}
    return Section(
        key=key,
        source="",
        title=title,
        paper="not given",
        ours=f"With the errors of optinc/chip=target, uncalibrated, the best ONN ({best['ONN']} on "
        f"{best['hardware']}, {best['devices']} devices) receives {best[TARGET]} % of the inputs "
        "right",
        state="measured",
        tables=[shown("Errors at which 99.9 and 99 % of the inputs are right", result)],
        plots=[
            Plot(
                "Couplers' error at which 99.9 % of the inputs are right, against devices; "
                f"{counted(len(result.rows) - len(tolerant), 'ONN')} of {len(result.rows)} without "
                "a point tolerate none",
                plots.scatter(
                    series,
                    labels,
                    x="devices",
                    y="couplers, rad",
                    logarithmic="xy",
                    colours=onn_colours(series),
                ),
            )
        ],
        results=[result],
    )


def _absent(key: str, title: str) -> Section:
    command = f"python -m experiments.{key}"
    return absent(key, source="", title=title, paper="not given", command=command)
