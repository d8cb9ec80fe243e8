"""Area of a switch: its number of Mach-Zehnder interferometers (Sec. II-B, III-B).

The counts are the paper's: biases need no MZI, and the units P and T are matrices in SVD form. They
give the area ratios of Table I, 39.27, 40.92 and 40.39 %, exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise


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


def network_mzis(
    structure: Sequence[int], approximated_layers: Collection[int] = (), *, biases: bool = False
) -> int:
    """Count the MZIs of all layers of an ONN, without units P and T.

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form.
        biases: Count the biases too, unlike the paper: a bias is a reference beam on one more input
            port of an SVD mesh, and is split by one attenuator per output of a Sigma U mesh.
    """
    total = 0
    for layer, (inputs, outputs) in enumerate(pairwise(structure), start=1):
        if layer in approximated_layers:
            total += approximated_mzis(outputs, inputs) + biases * outputs
        else:
            total += svd_mzis(outputs, inputs + biases)
    return total


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


def interface_mzis(*, servers: int, symbols: int, onn_inputs: int) -> int:
    """Count the MZIs of unit P, a K x NM matrix, and unit T, an NM x M matrix, in SVD form."""
    return svd_mzis(onn_inputs, servers * symbols) + svd_mzis(servers * symbols, symbols)


def area_ratio(
    structure: Sequence[int], approximated_layers: Collection[int], *, servers: int
) -> float:
    """Return the area of a switch relative to the unapproximated switch (Tables I and II).

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs.
        approximated_layers: 1-based indices of the layers in Sigma U form.
        servers: Number of servers N.
    """
    interface = interface_mzis(servers=servers, symbols=structure[-1], onn_inputs=structure[0])
    approximated = network_mzis(structure, approximated_layers) + interface
    return approximated / (network_mzis(structure) + interface)
