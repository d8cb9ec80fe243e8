"""Cases of :mod:`benchmarks.wire`: links, servers, what is trained, and how it is averaged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.arms import ARMS, OPTINC_8, TORCH

ROOT = Path(__file__).parents[2]

LOOPBACK = "loopback"
"""Link without a speed of its own."""

BATCHES = {"resnet50": 32, "llama": 4, "mlp": 32}
"""Samples of a server and step, by network."""

MEMORY_OF_A_PROCESS = 0.5e9
"""Bytes that a process takes for itself, without gradients."""

MEMORY_OF_A_VALUE = {"int8 blocks": 28, "torch PowerSGD, rank 4": 20}
"""Bytes of a server for a value of a flat gradient: the parameter, its gradient, DDP's bucket and
what the arm adds. The peak of a process at 400 MB less the above, rounded up: 25, 17 and at most 13
for the others."""

MOST_MEMORY_OF_A_VALUE = 16
"""The same of all other arms."""

NETWORK_SIZES = {"resnet50": 23_528_522, "llama": 14_358_912, "mlp": 20_981_760}
"""Values of the networks' gradients."""

MOST_TOGETHER = 10e9
"""Bytes that networks of all servers may take whose steps take turns."""

MOST_LEFT_BEHIND = 10e9
"""Bytes that cases may leave in the memory of all servers before these are started anew."""

LEFT_BEHIND_OF_A_VALUE = 6
"""Bytes of a value that the memory of a server grows by with each case: 2 to 5 were measured."""

QUICK_BATCHES = {"resnet50": 8}

SIZES = {
    "1 KB": 250,
    "10 KB": 2_500,
    "100 KB": 25_000,
    "1 MB": 250_000,
    "10 MB": 2_500_000,
    "100 MB": 25_000_000,
    "400 MB": 100_000_000,
}
"""Values of flat float32 gradients, by their bytes."""

QUICK_SIZES = {"100 KB": 25_000, "10 MB": 2_500_000}

QUICK_ARMS = (TORCH, "torch fp16 hook", OPTINC_8, "optinc 2 bits")
"""Ways of averaging that train networks in ``--quick``; flat gradients are averaged in all ways."""

QUICK_LINKS = (("1", 4), ("10", 2))
"""Links and servers of ``--quick``."""


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        link: Gb/s of a link, or ``loopback``.
        servers: Number of servers.
        gradient: Name of a network, or bytes of a flat gradient.
        arm: How gradients are averaged, a key of ``ARMS``.
        batch: Samples of a server; 0 for a flat gradient.
        values: Values of a flat gradient; 0 for a network.
    """

    link: str
    servers: int
    gradient: str
    arm: str
    batch: int = 0
    values: int = 0

    @property
    def gigabits(self) -> float | None:
        """Speed of a link in Gb/s; None on loopback."""
        return None if self.link == LOOPBACK else float(self.link)

    @property
    def name(self) -> str:
        """What ``--only`` is compared with."""
        link = self.link if self.link == LOOPBACK else f"{self.link} Gb/s"
        return f"{link}, {self.servers} servers, {self.gradient}, {self.arm}"

    @property
    def size(self) -> int:
        """Values of its gradient."""
        return self.values or NETWORK_SIZES[self.gradient]

    @property
    def memory(self) -> float:
        """Bytes that all servers take together, without what a network's layers put out."""
        of_a_value = MEMORY_OF_A_VALUE.get(self.arm, MOST_MEMORY_OF_A_VALUE)
        return self.servers * (MEMORY_OF_A_PROCESS + of_a_value * self.size)

    def row(self) -> dict[str, Any]:
        """Return the fields, from which the case can be built again."""
        return asdict(self)


def all_cases(*, links: Sequence[str], servers: Sequence[int]) -> Iterator[Case]:
    """Yield the cases, the networks of all links before the sweeps of sizes."""
    for link in links:
        for count in servers:
            yield from _trained(link, count, BATCHES, tuple(ARMS))
    for link in links:
        for count in servers:
            yield from _swept(link, count, SIZES)


def quick_cases(links: Sequence[str]) -> Iterator[Case]:
    """Yield a few cases, on loopback where no other link is wanted."""
    chosen = [(link, count) for link, count in QUICK_LINKS if link in links]
    for link, count in chosen or [(links[0], 2)]:
        yield from _swept(link, count, QUICK_SIZES)
        yield from _trained(link, count, QUICK_BATCHES, QUICK_ARMS)


def served_together(cases: Sequence[Case]) -> list[Case]:
    """Return the first cases, as many as the same processes may serve: at least one."""
    first, left_behind = cases[0], 0.0
    chosen: list[Case] = []
    for case in cases:
        left_behind += case.servers * case.size * LEFT_BEHIND_OF_A_VALUE
        same = (case.link, case.servers) == (first.link, first.servers)
        if chosen and (not same or left_behind > MOST_LEFT_BEHIND):
            break
        chosen.append(case)
    return chosen


def measured_together(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases in order, those that train one network in as few lists as memory allows."""
    found: list[list[Case]] = []
    taken = 0.0
    for case in cases:
        own = case.memory - case.servers * MEMORY_OF_A_PROCESS
        last = found[-1] if found else []
        same = bool(last and case.batch) and replace(case, arm=last[0].arm) == last[0]
        if same and taken + own <= MOST_TOGETHER:
            last.append(case)
            taken += own
        else:
            found.append([case])
            taken = own
    return found


def selected(cases: Iterator[Case], only: str | None) -> list[Case]:
    """Return the cases in whose name a regular expression is found; all without one."""
    return [case for case in cases if only is None or re.search(only, case.name)]


def _trained(
    link: str, servers: int, batches: dict[str, int], arms: Sequence[str]
) -> Iterator[Case]:
    for gradient, batch in batches.items():
        for arm in arms:
            yield Case(link, servers, gradient, arm, batch=batch)


def _swept(link: str, servers: int, sizes: dict[str, int]) -> Iterator[Case]:
    for gradient, values in sizes.items():
        for arm in ARMS:
            yield Case(link, servers, gradient, arm, values=values)


def code_hash() -> str:
    """Return a hash of the code that is measured: results of other code do not count as done."""
    digest = hashlib.sha256()
    own = [*(ROOT / "benchmarks" / "wire").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    for path in sorted([*(ROOT / "optinc").rglob("*.py"), *own]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
