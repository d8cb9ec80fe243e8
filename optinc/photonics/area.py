"""Area of a switch: its number of Mach-Zehnder interferometers (Sec. II-B, III-B).

The first counts are the paper's: biases need no MZI, every layer has its meshes, and the units P
and T are matrices in SVD form. They give the area ratios of Table I, 39.27, 40.92 and 40.39 %,
exactly. :class:`PartCounts` says what is built.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Literal

from optinc.photonics.chip_settings import BiasForm, Shifters

LayerForm = Literal["svd", "sigma_u", "diagonal"]
"""Meshes U and V^T, attenuators between them; a mesh and attenuators a block; attenuators alone."""


def unitary_mzis(size: int) -> int:
    """Count the MZIs of a unitary in the rectangular arrangement: n(n-1)/2."""
    return size * (size - 1) // 2


def svd_mzis(outputs: int, inputs: int) -> int:
    """Count the MZIs of an arbitrary m x n weight as U S V^T: (m(m+1) + n(n-1))/2."""
    return unitary_mzis(outputs) + outputs + unitary_mzis(inputs)


def approximated_mzis(outputs: int, inputs: int) -> int:
    """Count the MZIs of an m x n weight approximated by Sigma U: s(s+1)/2 for a block of size s.

    The rest of a weight whose sizes do not divide each other is cut into smaller square blocks.
    """
    shorter, longer = sorted((outputs, inputs))
    blocks, rest = divmod(longer, shorter)
    count = blocks * shorter * (shorter + 1) // 2
    return count + (approximated_mzis(shorter, rest) if rest else 0)


def network_mzis(structure: Sequence[int], approximated_layers: Collection[int] = ()) -> int:
    """Count the MZIs of all layers of an ONN, without biases and units P and T.

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form.
    """
    return sum(
        (approximated_mzis if layer in approximated_layers else svd_mzis)(outputs, inputs)
        for layer, (inputs, outputs) in enumerate(pairwise(structure), start=1)
    )


def layer_depth(outputs: int, inputs: int, *, approximated: bool) -> int:
    """Count the interferometers that light crosses in one layer, an attenuator as one."""
    if approximated:
        return mesh_depth(min(outputs, inputs)) + 1
    return mesh_depth(inputs) + 1 + mesh_depth(outputs)


def mesh_depth(size: int) -> int:
    """Count the columns of interferometers of a rectangular mesh: n, but one for two modes."""
    return size if size > 2 else size - 1


def optical_depth(structure: Sequence[int], approximated_layers: Collection[int] = ()) -> int:
    """Count the interferometers that light crosses from the inputs to the outputs of an ONN."""
    return sum(
        layer_depth(outputs, inputs, approximated=layer in approximated_layers)
        for layer, (inputs, outputs) in enumerate(pairwise(structure), start=1)
    )


def interface_mzis(
    *, servers: int, symbols: int, onn_inputs: int, received_symbols: int | None = None
) -> int:
    """Count the MZIs of unit P, a K x NM matrix, and unit T, an NM x M matrix, in SVD form.

    Args:
        servers: Number of servers N.
        symbols: PAM4 symbols M of a code.
        onn_inputs: ONN inputs K.
        received_symbols: Symbols that go back to each server through unit T; None for M.
    """
    back = symbols if received_symbols is None else received_symbols
    return svd_mzis(onn_inputs, servers * symbols) + svd_mzis(servers * back, back)


def area_ratio(
    structure: Sequence[int],
    approximated_layers: Collection[int],
    *,
    servers: int,
    symbols: int | None = None,
) -> float:
    """Return the area of a switch relative to the unapproximated switch (Tables I and II).

    Args:
        structure: Widths of all layers, from K ONN inputs to the outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form.
        servers: Number of servers N.
        symbols: PAM4 symbols that a server sends; None for as many as it receives.
    """
    interface = interface_mzis(
        servers=servers,
        symbols=structure[-1] if symbols is None else symbols,
        onn_inputs=structure[0],
        received_symbols=structure[-1],
    )
    approximated = network_mzis(structure, approximated_layers) + interface
    return approximated / (network_mzis(structure) + interface)


def block_shares(outputs: int, inputs: int) -> dict[int, int]:
    """Return into how many equal shares light is divided on its way through the blocks of a layer.

    A layer cut into square blocks along its longer side splits its inputs 1:k before them (more
    outputs than inputs) or combines their outputs k:1 behind them. Both leave 1/k of the power,
    1/sqrt(k) of the amplitude, for light that the combiner does not see in all its inputs at once.

    Args:
        outputs: Outputs m.
        inputs: Inputs n.

    Returns:
        Size s of a block -> product of the k of all splitters and combiners before and behind it,
        the largest blocks first; the rest of sizes that do not divide each other is cut, and
        divided, again.
    """
    shorter, longer = sorted((outputs, inputs))
    blocks, rest = divmod(longer, shorter)
    ways = blocks + bool(rest)
    shares = {shorter: ways}
    if rest:
        shares |= {size: ways * share for size, share in block_shares(shorter, rest).items()}
    return shares


@dataclass(frozen=True)
class PartCounts:
    """Parts of a layer, or of all layers of an ONN, without units P and T.

    Attributes:
        mzis: Interferometers as the paper counts them: a mesh in every layer, no bias.
        bare_mzis: The same, but a diagonal layer is attenuators without a mesh.
        built_mzis: Interferometers that are built: meshes with the ports of biases, attenuators
            that meet light, and attenuators of biases.
        splitters: 1:2 splitters: of inputs to blocks, and of reference beams to outputs.
        combiners: 2:1 combiners: of blocks, and of reference beams with outputs.
        splitting_db: Loss in dB that the splitters and combiners of blocks cost the signal. A
            reference beam joins through a weak tap, whose loss is not counted.
        optical_depth: Interferometers that light crosses, an attenuator counted as one.
        divider_depth: Splitters and combiners of blocks that light crosses.
        amplifiers: Outputs, each with a detector and the amplifier that provides the gain.
    """

    mzis: int
    bare_mzis: int
    built_mzis: int
    splitters: int
    combiners: int
    splitting_db: float
    optical_depth: int
    divider_depth: int
    amplifiers: int


def layer_parts(outputs: int, inputs: int, *, form: LayerForm, bias: BiasForm) -> PartCounts:
    """Count the parts of a layer as it is built.

    Args:
        outputs: Outputs m.
        inputs: Inputs n, without the port of a reference beam.
        form: Form of the layer.
        bias: Form of the bias, if the layer is an SVD; others always have attenuators.
    """
    port = form == "svd" and bias == "port"
    splitters, combiners = (0, 0) if form == "svd" else _dividers(outputs, inputs)
    if not port:
        splitters, combiners = splitters + outputs - 1, combiners + outputs
    if form == "svd":
        paper = bare = svd_mzis(outputs, inputs)
        ports = inputs + port
        built = unitary_mzis(outputs) + min(outputs, ports) + unitary_mzis(ports)
        depth = layer_depth(outputs, ports, approximated=False)
    else:
        paper = built = bare = approximated_mzis(outputs, inputs)
        depth = layer_depth(outputs, inputs, approximated=True)
    if form == "diagonal":
        bare = built = max(outputs, inputs)
        depth = 1
    shares = {1: 1} if form == "svd" else block_shares(outputs, inputs)
    return PartCounts(
        mzis=paper,
        bare_mzis=bare,
        built_mzis=built + (0 if port else outputs),
        splitters=splitters,
        combiners=combiners,
        splitting_db=10 * math.log10(max(shares.values())),
        optical_depth=depth,
        divider_depth=0 if form == "svd" else _divider_depth(outputs, inputs),
        amplifiers=outputs,
    )


def total_parts(layers: Iterable[PartCounts]) -> PartCounts:
    """Add up the parts, dB and depths of the layers that light crosses one after another."""
    columns = zip(*(astuple(layer) for layer in layers), strict=True)
    return PartCounts(*(sum(column) for column in columns))


@dataclass(frozen=True)
class CrossbarCounts:
    """Parts of a layer as a crossbar, or of all layers of an ONN, without units P and T.

    Attributes:
        weights: Attenuators of weights, one for each that is not zero.
        biases: Attenuators of biases.
        splitters: 1:2 splitters, of inputs and of reference beams to their attenuators.
        joints: Where light of two attenuators meets: 2:1 combiners of fields, or wires of two
            photodiodes.
        amplifiers: Outputs, each with the amplifier that provides its gain.
    """

    weights: int
    biases: int
    splitters: int
    joints: int
    amplifiers: int

    @property
    def devices(self) -> int:
        """Attenuators, each an MZI: what is programmed, and counts as MZIs do in a mesh."""
        return self.weights + self.biases

    def photodiodes(self, *, intensities: bool) -> int:
        """Count the photodiodes: one an attenuator, or a pair for each output that sums fields."""
        return self.devices if intensities else 2 * self.amplifiers

    def phase_shifters(self, *, intensities: bool, shifters: Shifters) -> int:
        """Count the phase shifters: those of the MZIs, and of fields one a way."""
        return self.devices * ((1 if shifters == "one_arm" else 2) + (not intensities))

    @classmethod
    def total(cls, layers: Iterable[CrossbarCounts]) -> CrossbarCounts:
        """Add up the parts of layers."""
        columns = zip(*(astuple(layer) for layer in layers), strict=True)
        return cls(*(sum(column) for column in columns))


def crossings(outputs: int, inputs: int) -> int:
    """Count the waveguide crossings on the longest way through a crossbar of fields.

    A grid: a row for each input, a column for each output, which cross wherever they meet. A
    crossbar of intensities ends at its photodiodes, and wires cross instead.
    """
    return max(outputs + inputs - 2, 0)


def network_parts(structure: Sequence[int], approximated_layers: Collection[int]) -> PartCounts:
    """Count the parts of an ONN none of whose layers is diagonal, biases as ports of SVD layers.

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form.
    """
    return total_parts(
        layer_parts(
            outputs,
            inputs,
            form="sigma_u" if layer in approximated_layers else "svd",
            bias="port",
        )
        for layer, (inputs, outputs) in enumerate(pairwise(structure), start=1)
    )


def _dividers(outputs: int, inputs: int) -> tuple[int, int]:
    """Count the 1:2 splitters before and the 2:1 combiners behind the blocks of a layer."""
    shorter, longer = sorted((outputs, inputs))
    blocks, rest = divmod(longer, shorter)
    stages = shorter * (blocks + bool(rest) - 1)
    splitters, combiners = (stages, 0) if outputs >= inputs else (0, stages)
    if rest:
        # The rest of the longer side, cut along the shorter one.
        more = _dividers(rest, shorter) if outputs >= inputs else _dividers(shorter, rest)
        splitters, combiners = splitters + more[0], combiners + more[1]
    return splitters, combiners


def _divider_depth(outputs: int, inputs: int) -> int:
    """Count the 1:2 stages that light crosses in the trees before and behind blocks, at most."""
    shorter, longer = sorted((outputs, inputs))
    blocks, rest = divmod(longer, shorter)
    stages = (blocks + bool(rest) - 1).bit_length()
    return stages + (_divider_depth(shorter, rest) if rest else 0)
