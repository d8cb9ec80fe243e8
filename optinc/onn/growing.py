"""Growing an ONN: layers are inserted that at first change nothing (Net2DeeperNet).

Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", 2016.
"""

# Shape suffixes: m outputs, n inputs.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


def serves_alike(found: Scenario, wanted: Scenario) -> bool:
    """Whether an ONN for one scenario is a start for another.

    The quantised average of other numbers of servers is the same function of the averages A
    (eq. 3), whose steps of 1/N alone differ. Decimal parts are counted in such steps, so
    that switches that handle them are not alike.
    """
    decimal = found.level > 1 or found.keeps_decimal or found.returns_sum
    return found == wanted or (not decimal and replace(found, servers=wanted.servers) == wanted)


def insertion(structure: Sequence[int], grown: Sequence[int]) -> int | None:
    """Return after which hidden layer a structure grows into another, None if it does not.

    It does where consecutive widths are inserted after a hidden width w, none of them below w and
    the last of them w again, as Table I's structures grow by a wider layer in their middle from
    one number of servers to the next.

    Args:
        structure: Widths of all layers, from K ONN inputs to M outputs.
        grown: The same of the larger network.

    Returns:
        Index of w in ``structure``, 1 or more; the first that is possible.

    Example:
        >>> insertion((4, 64, 128, 64, 4), (4, 64, 128, 256, 128, 64, 4))
        2
    """
    structure, grown = tuple(structure), tuple(grown)
    extra = len(grown) - len(structure)
    for i in range(1, len(structure) - 1):
        inserted = grown[i + 1 : i + 1 + extra]
        if (
            extra > 0
            and grown[: i + 1] + grown[i + 1 + extra :] == structure
            and min(inserted) >= inserted[-1] == structure[i]
        ):
            return i
    return None


@torch.no_grad()
def grow(network: OpticalNetwork, structure: Sequence[int]) -> OpticalNetwork:
    """Insert layers in an optical network, which still computes the same.

    ReLU leaves what it has passed once unchanged, so that the identity hands on the signals of the
    hidden layer before. The other neurons of an inserted layer start from random weights, drawn
    from torch's global generator, and are not listened to yet. The identity is in Sigma U form.

    Args:
        network: The network; is not changed.
        structure: Widths of all layers of the larger one.

    Returns:
        The larger network, on the CPU.

    Raises:
        ValueError: If the structure does not grow into the other (:func:`insertion`).
    """
    i = insertion(network.structure, structure)
    if i is None:
        raise ValueError(f"{network.structure} does not grow into {tuple(structure)}")
    grown = OpticalNetwork(
        structure,
        input_scale=network.input_scale,
        input_offset=network.input_offset,
        output_scale=network.output_scale,
        output_offset=network.output_offset,
    )
    extra, width = len(grown.layers) - len(network.layers), network.structure[i]
    kept = grown.linears[:i] + grown.linears[i + extra :]
    for layer, source in zip(kept, network.linears, strict=True):
        layer.load_state_dict(source.state_dict())
    for layer in grown.linears[i : i + extra]:
        layer.weight[:width].copy_(torch.eye(width, layer.in_features))
        layer.bias[:width].zero_()
    return grown
