"""Groups of parameters by their module, as slices of the flat gradient."""

# Shape suffixes: P gradient values.

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from optinc.errors import ConfigurationError


def parameter_groups(
    names: Sequence[str], sizes: Sequence[int], *, depth: int
) -> list[tuple[str, slice]]:
    """Group parameters by the first components of their module's path.

    Leading components that the paths of all modules share are left out and not counted, as long as
    every path keeps a component. A parameter of the root module is a group of its own name.

    Args:
        names: Names of all parameters in flat order, as in ``named_parameters``.
        sizes: Number of values of every parameter.
        depth: Components of a group's name, at least 1; shorter paths are taken whole.

    Returns:
        Name and slice of [P] of every group, in flat order; the slices cover all of [P]. With
        depth 2, ``network.layer1.0.conv1.weight`` belongs to ``layer1.0`` where all names begin
        with ``network``.

    Raises:
        ConfigurationError: If ``depth`` is less than 1.
    """
    if depth < 1:
        raise ConfigurationError(f"depth must be at least 1, got {depth}")
    paths = [name.split(".")[:-1] for name in names]
    shared = _shared_components(paths)
    keys = [
        ".".join(path[shared : shared + depth]) or name
        for name, path in zip(names, paths, strict=True)
    ]
    groups, start = [], 0
    # Modules list their own parameters and then those of their children, one child after the
    # other, so that a group is one slice.
    for key, members in groupby(zip(keys, sizes, strict=True), key=lambda member: member[0]):
        stop = start + sum(size for _, size in members)
        groups.append((key, slice(start, stop)))
        start = stop
    return groups


def _shared_components(paths: Sequence[Sequence[str]]) -> int:
    """Count the leading components that all paths share, leaving each path one component."""
    most = min((len(path) - 1 for path in paths), default=0)
    shared = 0
    while shared < most and len({path[shared] for path in paths}) == 1:
        shared += 1
    return shared
