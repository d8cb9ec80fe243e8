"""Inputs that the shipped ONNs receive right on imperfect chips, beside the first estimates.

    python -m experiments.imperfections [EFFECT ...] [--chips 100] [--onns smallest robust]

Each effect acts alone on drawn chips of scenario 1 (8 bits, 4 servers). Numbers are the share of
all 28,561 inputs received right, in %, as the mean over chips with its standard error. Effects that
are the same on every chip are averaged over sets of phases that play the same weights: an SVD does
not determine its vectors, but for those of a singular value without equal up to their sign, and
linear algebra libraries choose them differently. The first estimates come from another program,
whose conventions are not all known. The conventions here:

- ``one_arm`` MZIs; a residual phase on every shifter; an attenuator is an MZI with one shifter.
- Biases by attenuators. Layers that are diagonal have meshes, as the paper counts them, or none
  (``robust*``).
- DACs have 2^bits steps over 2 pi, on every shifter; an attenuator and an MZI have one of 2 theta.
- A splitting angle differs by sigma in each of the two couplers of an MZI.
- The loss of each arm differs by sigma from the mean.
- Thermal crosstalk joins nearest neighbours of a column, of the same kind of shifter.
- Errors of servers are drawn once a chip, the drift of phases for every symbol.

Two further designs have no estimates: ``comparators`` (robust* with one comparator in place of the
three ReLUs of a step) and ``direct`` (no ONN: receivers behind unit P, which have no mesh).
"""

# Shape suffixes: C chips, B meshes, s size of a mesh.

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import columns_of, note, show
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.decomposition import decompose, rebuild

ONNS = ("smallest", "robust", "robust*", "all_layers", "dense")
"""Shipped ONNs of scenario 1; * is without meshes in diagonal layers."""

DESIGNS = ("comparators", "direct")
"""Designs without first estimates: comparators for robust's ReLUs, and no ONN at all."""

CHIPS = {"all_layers": 20, "dense": 10}
"""Most chips of large ONNs."""

FIRST_CHIPS = 5
"""Chips of the first estimates: "several", which is taken for five."""

SAME_VALUE = 1e-6
"""Share of the largest singular value by which equal ones differ at most, as float32 rounds."""

SETS = 20
"""Most sets of phases over which an effect is averaged that is the same on every chip; the first
estimates are of one."""

BASE = ChipSettings(shifters="one_arm", bias="attenuator")

Figure = float | tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """One row of the table.

    Attributes:
        name: Name on the command line and in the table.
        settings: What differs from an ideal chip.
        first: First estimates by ONN, in %: a number, or a range.
        random: Whether chips differ; otherwise sets of phases take their place.
        repeats: How often every input is sent.
    """

    name: str
    settings: Mapping[str, Any]
    first: Mapping[str, Figure] = field(default_factory=dict)
    random: bool = True
    repeats: int = 1

    @property
    def chip(self) -> ChipSettings:
        """The chip of this row."""
        return replace(BASE, **self.settings)


def _of(*figures: Figure | None) -> dict[str, Figure]:
    return {name: figure for name, figure in zip(ONNS, figures, strict=False) if figure is not None}


def _fixed(name: str, *figures: Figure | None, **settings: Any) -> Effect:
    return Effect(name, settings, _of(*figures), random=False)


def _drawn(name: str, *figures: Figure | None, **settings: Any) -> Effect:
    return Effect(name, settings, _of(*figures))


ALL = {"mzi_loss_spread": 0.02, "phase_bits": 10, "noise": 0.005}

EFFECTS = (
    _drawn("phase 0.001 rad", 37, 100, None, 99.97, 100, phase_error=0.001),
    _drawn("phase 0.003 rad", 10, 99.7, 99.94, 99.2, 98.9, phase_error=0.003),
    _drawn("phase 0.01 rad", 1.8, 53, 63, 70, 54, phase_error=0.01),
    _fixed("12 bits", 100, 100, None, 100, phase_bits=12),
    _fixed("10 bits", 46, 100, None, 99.99, phase_bits=10),
    _fixed("8 bits", 4.8, 98.2, None, 90, 86, phase_bits=8),
    _fixed("6 bits", 0.6, 8.7, None, 19, 9.5, phase_bits=6),
    _drawn("couplers 0.01 rad", 4.3, 32, None, 99.9, 73, coupler_error=0.01),
    _drawn("couplers 0.02 rad", 1.6, 5.4, None, 67, 10, coupler_error=0.02),
    _fixed("common 0.01 rad", 1, 32, None, 99, 39, coupler_common_error=0.01),
    _drawn("loss spread 0.02 dB", 55, 99.97, None, 98, 96, mzi_loss_spread=0.02),
    _fixed("crosstalk 0.002", 6, 22, None, 15, 1, crosstalk=0.002),
    _fixed("ReLU knee 0.03", 13, 100, None, 42, relu_knee=0.03),
    _fixed("ReLU leak -40 dB", None, 44, relu_leak=40.0),
    _drawn("server phase 0.1 rad", (99, 100), (99, 100), None, (99, 100), phase_drift=0.1),
    _drawn("server phase 0.2 rad", (80, 96), (80, 96), None, (80, 96), phase_drift=0.2),
    _drawn("free-running lasers", (0.2, 0.3), (0.2, 0.3), None, (0.2, 0.3), phase_drift=inf),
    _drawn("imbalance 0.02", None, 100, server_imbalance=0.02),
    _drawn("imbalance 0.05", None, 96, server_imbalance=0.05),
    _drawn("noise 0.01 uncentred", None, 99.944, noise=0.01, receiver_noise=0.01),
    _drawn("all but couplers", None, 99.9, phase_error=0.003, **ALL),
    _drawn("all, 0.005 rad", None, (93, 95), phase_error=0.005, **ALL),
)
"""The rows. ``all``: 0.02 dB spread, 10 bits and 0.5 % noise beside the phase error; the estimates
had couplers with known errors of 2 % that the phases made up for."""


def with_meshes(programme: MeshProgramme) -> MeshProgramme:
    """Return a programme whose diagonal layers have meshes, as the paper counts them.

    A mesh plays the signs of the diagonal, which attenuators give otherwise.
    """
    settings, layers = dict(programme.settings), []
    for i, layer in enumerate(programme.layers):
        if layer.form == "diagonal":
            for name in [name for name in settings if name.startswith(f"layers.{i}.blocks")]:
                scale_Bs = settings[name]
                sign_Bs = torch.where(scale_Bs < 0, -1.0, 1.0).double()
                mesh = name.removesuffix(".attenuation")
                settings[name] = scale_Bs.abs()
                settings |= _mesh_settings(mesh, torch.diag_embed(sign_Bs), programme)
        layers.append(replace(layer, form="sigma_u") if layer.form == "diagonal" else layer)
    return replace(programme, settings=settings, layers=tuple(layers))


def with_other_vectors(programme: MeshProgramme, seed: int) -> MeshProgramme:
    """Return a programme that plays the same weights with other phases.

    An SVD does not determine its vectors: the two of a singular value may both change their sign,
    those of equal singular values may turn together, and what meets no light or nobody listens to
    may be any basis of the rest.

    Args:
        programme: Settings for ideal parts.
        seed: Seed of the rotations.
    """
    settings, generator = dict(programme.settings), torch.Generator().manual_seed(seed)
    for i, layer in enumerate(programme.layers):
        if layer.form != "svd":
            continue
        left, right = f"layers.{i}.left", f"layers.{i}.right"
        left_mm, right_pp = (rebuild(programme.phases(name))[0] for name in (left, right))
        value_r = settings[f"layers.{i}.attenuation"]
        dark_r = value_r < SAME_VALUE * value_r.max()
        for turned in _equal_values(value_r, ~dark_r):
            turn_gg = _random_rotation(len(turned), generator)
            left_mm[:, turned] = left_mm[:, turned] @ turn_gg
            right_pp[turned] = turn_gg.T @ right_pp[turned]
        for rest_ss in (left_mm.T, right_pp):
            free = _dark(dark_r, len(rest_ss))
            rest_ss[free] = _random_rotation(len(free), generator) @ rest_ss[free]
        settings |= _mesh_settings(left, left_mm[None], programme)
        settings |= _mesh_settings(right, right_pp[None], programme)
    return replace(programme, settings=settings)


def _equal_values(value_r: Tensor, lit_r: Tensor) -> list[Tensor]:
    """Return the places of singular values that are not 0, those of equal ones together."""
    order = torch.argsort(value_r, descending=True, stable=True)
    order = order[lit_r[order]]
    drop = value_r[order][:-1] - value_r[order][1:]
    cuts = torch.nonzero(drop > SAME_VALUE * value_r.max()).flatten() + 1
    return list(torch.tensor_split(order, cuts.tolist()))


def _dark(dark_r: Tensor, count: int) -> Tensor:
    """Return which of all vectors of a side belong to a singular value of 0, or to none."""
    surplus = torch.ones(count - len(dark_r), dtype=torch.bool)
    return torch.nonzero(torch.cat([dark_r, surplus])).flatten()


def _random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """Return an orthogonal matrix drawn from all alike (Haar), complex128 [size, size]."""
    normal_ss = torch.randn(size, size, generator=generator, dtype=torch.float64)
    orthogonal_ss, upper_ss = torch.linalg.qr(normal_ss)
    rotation_ss: Tensor = orthogonal_ss * torch.diagonal(upper_ss).sign()
    return rotation_ss.to(torch.complex128)


def _mesh_settings(name: str, unitary_Bss: Tensor, programme: MeshProgramme) -> dict[str, Tensor]:
    """Return the phases of a mesh by the names that a programme has for them."""
    phases = decompose(unitary_Bss, shifters=programme.shifters)
    values = {"theta": phases.theta_BE, "phi": phases.phi_BE, "output": phases.output_Bn}
    return {f"{name}.{key}": value for key, value in values.items()}


def load(name: str) -> tuple[ONNArtifact, MeshProgramme]:
    """Load a shipped ONN by its short name, one of :data:`ONNS`, and the settings of its meshes."""
    onn = zoo.load_named(f"b8_n4_half_even_{name.removesuffix('*')}")
    programme = map_onn(onn, shifters=BASE.shifters, bias=BASE.bias)
    return onn, programme if name.endswith("*") else with_meshes(programme)


def phase_sets(programme: MeshProgramme, count: int) -> list[MeshProgramme]:
    """Return settings that play the same weights with up to ``count`` different sets of phases.

    A programme without an SVD has one set.
    """
    if all(layer.form != "svd" for layer in programme.layers):
        return [programme]
    return [programme, *(with_other_vectors(programme, seed) for seed in range(1, count))]


def measure(
    effect: Effect, onn: ONNArtifact, programmes: Sequence[MeshProgramme], *, chips: int
) -> tuple[float, float]:
    """Return mean and standard error, in %, of the share of inputs that drawn chips receive right.

    Args:
        effect: The row.
        onn: The ONN.
        programmes: Sets of phases of its meshes: the first plays all chips of an effect that is
            random; over all of them, an effect that is not is averaged.
        chips: Number of chips of an effect that is random.
    """
    return _share(effect, partial(ChipNetwork.draw, onn, effect.chip), programmes, chips=chips)


def measure_design(
    effect: Effect,
    design: str,
    onn: ONNArtifact,
    programmes: Sequence[MeshProgramme],
    *,
    chips: int,
) -> tuple[float, float]:
    """Return what :func:`measure` does for one of :data:`DESIGNS` on the base of an ONN."""
    if design == "direct":
        direct = DirectReceivers.draw(onn.card.scenario, effect.chip, chips=chips)
        return _mean(chip_accuracy(direct, repeats=effect.repeats))
    settings = replace(effect.chip, stages="digital")
    return _share(effect, partial(ChipNetwork.draw, onn, settings), programmes, chips=chips)


def _share(
    effect: Effect,
    draw: Callable[..., DrawnChips],
    programmes: Sequence[MeshProgramme],
    *,
    chips: int,
) -> tuple[float, float]:
    """Return mean and standard error over chips, or over sets of phases."""
    if effect.random:
        chip = draw(chips=chips, programme=programmes[0])
        return _mean(chip_accuracy(chip, repeats=effect.repeats))
    drawn = (draw(chips=1, programme=programme) for programme in programmes)
    return _mean(torch.cat([chip_accuracy(chip, repeats=effect.repeats) for chip in drawn]))


def _mean(right_C: Tensor) -> tuple[float, float]:
    """Return mean and standard error of shares, in %."""
    error = 100 * float(right_C.std()) / len(right_C) ** 0.5 if len(right_C) > 1 else 0.0
    return 100 * float(right_C.mean()), error


def agrees(
    mean: float, error: float, first: Figure, *, chips: int, first_chips: int = FIRST_CHIPS
) -> bool:
    """Whether a mean is within 2 points, or three standard errors, of the first estimate.

    Args:
        mean: Mean over chips, or over sets of phases.
        error: Its standard error.
        first: The first estimate.
        chips: Number of chips or sets.
        first_chips: Number of those of the estimate; the error that counts is of the difference.
    """
    low, high = first if isinstance(first, tuple) else (first, first)
    of_both = error * math.sqrt(1 + chips / first_chips)
    return max(low - mean, mean - high, 0.0) <= max(2.0, 3 * of_both)


Row = dict[str, str | float | bool]


def _row(
    name: str,
    effect: Effect,
    onn: ONNArtifact,
    programmes: Sequence[MeshProgramme],
    *,
    chips: int,
) -> Row:
    """Measure a row of the table."""
    started = time.perf_counter()
    if name in DESIGNS:
        mean, error = measure_design(effect, name, onn, programmes, chips=chips)
        random = effect.random or name == "direct"
    else:
        mean, error = measure(effect, onn, programmes, chips=chips)
        random = effect.random
    chips, first_chips = (chips, FIRST_CHIPS) if random else (len(programmes), 1)
    row: Row = {
        "ONN": name,
        "effect": effect.name,
        "right %": round(mean, 3),
        "standard error": round(error, 3),
        "chips": chips,
        "first estimate %": "",
        "agrees": "",
    }
    if name not in DESIGNS:
        first = effect.first[name]
        agree = agrees(mean, error, first, chips=chips, first_chips=first_chips)
        row["first estimate %"] = (
            f"{first[0]:g} to {first[1]:g}" if isinstance(first, tuple) else f"{first:g}"
        )
        row["agrees"] = "yes" if agree else "no"
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Measure, print and write the table."""
    parser = command_parser(__doc__)
    names = [effect.name for effect in EFFECTS]
    parser.add_argument("effects", nargs="*", metavar="EFFECT", help=f"any of {', '.join(names)}")
    parser.add_argument("--chips", type=int, default=100, help="chips (default %(default)s)")
    every = (*ONNS, *DESIGNS)
    parser.add_argument("--onns", nargs="+", choices=every, default=every, help="ONNs and designs")
    add_results(parser)
    arguments = parser.parse_args()
    unknown = set(arguments.effects) - set(names)
    if unknown:
        parser.error(f"no effect {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if arguments.chips < 1:
        parser.error("--chips must be 1 or more")
    rows = []
    for name in arguments.onns:
        effects = [
            effect
            for effect in EFFECTS
            if (name in DESIGNS or name in effect.first)
            and (not arguments.effects or effect.name in arguments.effects)
        ]
        onn, programme = load("robust*" if name in DESIGNS else name)
        chips = min(arguments.chips, CHIPS.get(name, arguments.chips))
        fixed = any(not effect.random for effect in effects) and name != "direct"
        programmes = phase_sets(programme, min(chips, SETS)) if fixed else [programme]
        for effect in effects:
            rows.append(_row(name, effect, onn, programmes, chips=chips))
            note(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if not rows:
        parser.error("there is no first estimate of these effects for these ONNs")
    show("Imperfections of drawn chips", columns_of(rows, form=".3f"), rows)
    save(
        "imperfections",
        title="Drawn chips of the shipped ONNs, one imperfection at a time",
        source="",
        command=command_line("experiments.imperfections"),
        rows=rows,
        notes="Share of all 28,561 inputs of scenario 1 that are received right.",
        folder=arguments.results,
    )


if __name__ == "__main__":
    main()
