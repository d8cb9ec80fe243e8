"""Training with two and four bits, with and without remedies, paired by their seeds.

    python -m experiments.few_bits data.root=FOLDER [--models llama resnet18] [--seeds 1 2 3]
    python -m experiments.few_bits data.root=FOLDER --arms ring plain_2 decimal_feedback_2
    python -m experiments.few_bits --quick data.root=FOLDER
    python -m experiments.few_bits --collect [--with-recorded]

Models, data and pairing are those of experiments.significance, at reduced length: a small LLaMA
learns WikiText-2 by bytes (llama_long takes four times the steps), and ResNet18 learns CIFAR-100.
Arms are exact averaging (ring) and an ideal switch of 2, 4 and 8 bits, without remedies (plain) and
with those of docs/few_bits.md: the whole sum sent back (decimal), error feedback, stochastic
rounding, rotated blocks, clipped values (clip, with 2 and 4 bits), norms and biases at more bits
(fine), and several of them together. THC is a peer that also rotates. Started again, the command
trains only the runs that --runs lacks, and with --with-recorded none that experiments/results
holds. Results cover the seeds that an arm shares with ring.
--quick takes two seeds of a few arms of the LLaMA: it shows that everything works.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.common.options import (
    absolute,
    command_parser,
    parse_with_overrides,
)
from experiments.common.paired import (
    Training,
    add_paired_options,
    first_loss,
    merged,
    overrides_of,
    recorded,
    repeating,
    run_names,
    train,
    trained_on,
)
from experiments.common.record import save
from experiments.common.runs import (
    machines,
    made,
    other_overrides,
    settings_hash,
    summaries,
)
from experiments.common.small_trainings import COMMON
from experiments.common.small_trainings import TRAININGS as WHOLE
from experiments.common.statistics import paired_difference
from experiments.common.tables import RIGHT, Column, show
from experiments.few_bits_plot import plot

BASELINE = "ring"
BITS = (2, 4, 8)

STOCHASTIC = "optinc.quantization.rounding=stochastic"
ROTATION = "optinc.quantization.rotation=hadamard"
FEEDBACK = "optinc.quantization.error_feedback=true"
DECIMAL = "optinc.downlink=decimal"
FINE = "reducer=mixed_bits"
CLIP = "optinc.quantization.clip={clip}"

REMEDIES: Mapping[str, tuple[str, ...]] = {
    "plain": (),
    "decimal": (DECIMAL,),
    "feedback": (FEEDBACK,),
    "stochastic": (STOCHASTIC,),
    "rotation": (ROTATION,),
    "fine": (FINE,),
    "clip": (CLIP,),
    "decimal_feedback": (DECIMAL, FEEDBACK),
    "decimal_stochastic": (DECIMAL, STOCHASTIC),
    "decimal_rotation": (DECIMAL, ROTATION),
    "decimal_feedback_rotation": (DECIMAL, FEEDBACK, ROTATION),
    "decimal_feedback_fine": (DECIMAL, FEEDBACK, FINE),
    "decimal_feedback_clip": (DECIMAL, FEEDBACK, CLIP),
    "decimal_feedback_rotation_clip": (DECIMAL, FEEDBACK, ROTATION, CLIP),
    "decimal_all": (DECIMAL, FEEDBACK, ROTATION, CLIP, FINE),
}
"""Overrides of every remedy. ``decimal_all`` has all but stochastic rounding, whose noise error
feedback would have to make up for."""

CLIPS = {2: 1.22, 4: 2.47}
"""Root mean squares at which 3 and 15 evenly spaced values do best for normal values, by bits (Max,
IRE Trans. Inf. Theory 6, 1960, p. 7); 255 values need no clipping."""

TARGETS: Mapping[tuple[int, str], float] = {
    (2, "val_loss"): 0.02,
    (2, "val_acc"): 0.5,
    (4, "val_loss"): 0.005,
    (4, "val_acc"): 0.1,
}
"""How much worse than exact averaging an arm may be, by bits and metric, in the unit of results."""

LENGTHS = {
    "llama": ("trainer.max_steps=200", "trainer.val_check_interval=200"),
    "llama_long": ("trainer.max_steps=800", "trainer.val_check_interval=800"),
    "resnet18": ("trainer.max_epochs=1", "trainer.limit_train_batches=100"),
}
QUICK = ("trainer.max_steps=24", "trainer.val_check_interval=24", "trainer.limit_val_batches=10")
QUICK_ARMS = (BASELINE, "plain_2", "decimal_2", "decimal_feedback_2")

TRAININGS: Mapping[str, Training] = {
    name: replace(
        WHOLE[name.removesuffix("_long")],
        full=(*length, "trainer.limit_val_batches=100"),
        quick=QUICK,
    )
    for name, length in LENGTHS.items()
}


def arms() -> dict[str, tuple[str, ...]]:
    """Return the overrides of every arm, by its name: ``REMEDY_BITS``."""
    found: dict[str, tuple[str, ...]] = {BASELINE: ("arm=ring",)}
    for bits in BITS:
        switch = ("arm=ideal_8", f"optinc.bits={bits}")
        for remedy, settings in REMEDIES.items():
            if CLIP in settings and bits not in CLIPS:
                continue
            told = [each.format(clip=CLIPS.get(bits)) for each in settings]
            more = [f"reducer.fine.quantizer.bits={max(8, 2 * bits)}"] if FINE in settings else []
            found[f"{remedy}_{bits}"] = (*switch, *told, *more)
    for bits in (2, 4):
        found[f"thc_{bits}"] = ("reducer=thc", f"reducer.bits={bits}")
    return found


ARMS = arms()


def main() -> None:
    """Train what is missing, seed by seed, and write ``few_bits*`` after every seed."""
    parser = _parser()
    arguments, overrides = parse_with_overrides(parser)
    name = "few_bits_quick" if arguments.quick else "few_bits"
    folder: Path = arguments.runs or absolute(f"runs/{name}")
    models = arguments.models or (["llama"] if arguments.quick else list(TRAININGS))
    chosen = arguments.arms or (QUICK_ARMS if arguments.quick else tuple(ARMS))
    seeds = arguments.seeds or ((1, 2) if arguments.quick else (1, 2, 3))
    earlier = recorded(f"{name}_runs", overrides) if arguments.with_recorded else []

    def written() -> list[dict[str, Any]]:
        rows = merged(
            gather(folder, models, quick=arguments.quick),
            earlier,
            arms=list(ARMS),
            baseline=BASELINE,
        )
        command = _command(rows, seeds, quick=arguments.quick)
        return write(name, rows, seeds=seeds, folder=arguments.results, command=command)

    for model in [] if arguments.collect else models:
        for seed in seeds:
            settings = run_settings(model, seed=seed, quick=arguments.quick, chosen=chosen)
            known = run_names(model, earlier)
            train(folder / model, settings, overrides, jobs=arguments.jobs, known=known)
            written()
    table = written()
    if not table:
        parser.error(f"a seed of {BASELINE} and of another arm is needed, and {folder} has none")
    _show(table)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=TRAININGS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", help="default: all")
    add_paired_options(parser, "few_bits", seeds=(1, 2, 3))
    return parser


def _command(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], *, quick: bool) -> str:
    """Return the command that trains these runs, whatever part of them this process has trained."""
    counted = [row for row in rows if row["seed"] in seeds]
    options = {
        "models": list(dict.fromkeys(row["model"] for row in counted)),
        "arms": [arm for arm in ARMS if arm in {row["arm"] for row in counted}],
        "seeds": list(seeds),
    }
    return repeating("few_bits", options, overrides_of(counted), quick=quick)


def run_settings(
    model: str, *, seed: int, quick: bool, chosen: Sequence[str]
) -> dict[str, list[str]]:
    """Return the overrides of one seed's runs, by the folder of each: ``ARM-SEED``."""
    shared = TRAININGS[model].overrides(quick=quick)
    return {f"{arm}-{seed}": [*shared, *COMMON, *ARMS[arm], f"seed={seed}"] for arm in chosen}


def gather(folder: Path, models: Sequence[str], *, quick: bool = False) -> list[dict[str, Any]]:
    """Return a row for every finished run in a folder."""
    return [
        _row(model, path, summary, quick=quick)
        for model in models
        for path, summary in summaries(folder / model).items()
        if path.name.rpartition("-")[0] in ARMS
    ]


def _row(model: str, folder: Path, summary: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    training = TRAININGS[model]
    arm = folder.name.rpartition("-")[0]
    of_seed = run_settings(model, seed=summary["seed"], quick=quick, chosen=[arm])
    [wanted] = of_seed.values()
    sent, ring = summary["bytes_sent"], summary["bytes_ring"]
    return {
        "model": model,
        "arm": arm,
        "bits": int(arm.rpartition("_")[2]) if arm != BASELINE else 32,
        "seed": summary["seed"],
        "settings": settings_hash(folder),
        "overrides": other_overrides(folder, wanted),
        **made(summary),
        "metric": training.metric,
        "value": training.value(folder, summary),
        "first_loss": first_loss(folder),
        "steps": summary["steps"],
        "quantization_error": summary["quantization_error"],
        "bytes sent, ring = 1": sent / ring,
        "seconds": summary["seconds"],
        "reducer_seconds": summary["reducer_seconds"],
    }


def tabulate(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for every arm of every model that shares a seed with exact averaging.

    ``difference`` is the arm's mean minus that of the baseline over the shared seeds; an interval
    needs two of them. ``reached`` says whether the target of its bits holds: ``yes`` or ``no`` if
    the whole interval does, or does not.
    """
    table = []
    for model, training in TRAININGS.items():
        values = {
            (row["arm"], row["seed"]): row
            for row in rows
            if row["model"] == model and row["seed"] in seeds
        }
        for arm in (each for each in ARMS if each != BASELINE):
            shared = [s for s in seeds if (arm, s) in values and (BASELINE, s) in values]
            if shared:
                pairs = [(values[arm, seed], values[BASELINE, seed]) for seed in shared]
                table.append(_compared(model, training, arm, pairs))
    return table


def _compared(
    model: str,
    training: Training,
    arm: str,
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the row of one arm: its runs, each with its partner."""
    values = [float(run["value"]) for run, _ in pairs]
    partners = [float(partner["value"]) for _, partner in pairs]
    mean, other = sum(values) / len(pairs), sum(partners) / len(pairs)
    found = paired_difference(values, partners) if len(pairs) > 1 else None
    bits = int(pairs[0][0]["bits"])
    target = TARGETS.get((bits, training.metric))
    row: dict[str, Any] = {
        "model": model,
        "training": f"{training.title}, {pairs[0][0]['steps']} steps",
        "unit": training.unit,
        "better": training.better,
        "arm": arm,
        "bits": bits,
        "seeds": len(pairs),
        "mean": mean,
        "mean of ring": other,
        "difference": mean - other,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "target": target,
        "reached": None,
        "quantization error": sum(run["quantization_error"] for run, _ in pairs) / len(pairs),
        "bytes sent, ring = 1": pairs[0][0]["bytes sent, ring = 1"],
    }
    if found and target is not None:
        row["reached"] = reached(found.low, found.high, target=target, better=training.better)
    return row


def reached(low: float, high: float, *, target: float, better: int) -> str:
    """Return whether an interval of a difference lies within a target.

    Args:
        low: Lower end of the interval.
        high: Upper end.
        target: How much worse the arm may be.
        better: 1 where more is better, -1 where less is.

    Returns:
        ``yes``, ``no``, or ``open`` where the interval holds the target.
    """
    least, most = sorted((-better * low, -better * high))
    if most <= target:
        return "yes"
    return "no" if least > target else "open"


def write(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    seeds: Sequence[int],
    folder: Path,
    command: str,
) -> list[dict[str, Any]]:
    """Write ``NAME.csv``, ``NAME_runs.csv`` and ``NAME.png`` if there is something to compare.

    Returns:
        The rows of ``NAME.csv``.
    """
    table = tabulate(rows, seeds)
    if not table:
        return table
    notes = (
        "4 virtual servers, ideal switch; weights, batches and their order are those of the seed "
        "in every arm. difference: mean of arm minus ring over the shared seeds. low and high: "
        "95 % confidence interval by Student's t. reached: whether the interval lies within the "
        "target. Short trainings of small models."
    )
    origin: dict[str, Any] = {
        "source": "",
        "command": command,
        "hardware": machines(rows),
        "folder": folder,
    }
    save(name, title="Learning with few bits", rows=table, notes=notes, **origin)
    title = "Runs of learning with few bits"
    save(f"{name}_runs", title=title, rows=rows, notes=trained_on(rows), **origin)
    plot(table, folder / f"{name}.png")
    return table


def _show(table: Sequence[Mapping[str, Any]]) -> None:
    for title in dict.fromkeys(row["training"] for row in table):
        rows = [row for row in table if row["training"] == title]
        show(
            f"{title}: {rows[0]['unit']}",
            [
                Column("arm", "arm"),
                Column("seeds", "seeds", "d"),
                Column("mean", "mean", ".4f"),
                Column("minus ring", "difference", "+.4f"),
                Column("95 % interval", "interval", RIGHT),
                Column("target", "target", "g"),
                Column("reached", "reached", RIGHT),
            ],
            [
                {
                    **row,
                    "interval": row["low"] and f"{row['low']:+.4f} to {row['high']:+.4f}",
                }
                for row in rows
            ],
        )


if __name__ == "__main__":
    main()
