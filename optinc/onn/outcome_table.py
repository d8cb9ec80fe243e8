"""The outcome table of a chip: for each ONN input the codes received, with their probabilities.

A chip's static errors decide which code an input is most likely received as; its noise decides how
often it turns into which others. Both are found by sending every input through the chip, a number
of times where it is noisy.
"""

# Shape suffixes: P inputs sent, K ONN inputs, C combinations of ONN inputs, D deviations.

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from optinc.atomic_file import reason, write_atomically
from optinc.folders import warn_of_cache
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.dataset import samples_of_sums
from optinc.onn.progress import with_bar
from optinc.onn.server_symbols import draw_codes
from optinc.onn.truth_table import MANY, SECONDS_BETWEEN_SAVES, ideal_codes
from optinc.signal import preprocessing
from optinc.signal.randomness import generator_of
from optinc.signal.scenario import Scenario

logger = logging.getLogger(__name__)

ROWS = 1 << 11
"""Inputs sent through a chip at once; a table depends on it, as noise is drawn for each batch."""


CHECKED = 4
"""Batches of a cached table that are sent again: another machine or version may round otherwise."""


def repetitions_for(standard_error: float) -> int:
    """Return how often an input is sent so that no probability has a larger standard error.

    The largest is that of a probability of one half, ``0.5 / sqrt(repetitions)``.
    """
    # A float slightly above an integer must not count as the next one.
    return max(2, math.ceil(0.25 / standard_error**2 - 1e-9))


@dataclass(frozen=True)
class OutcomeTable:
    """Counts of the codes received for each combination of ONN inputs.

    Attributes:
        scenario: The switch.
        keys: Index of a combination times 2^``received_bits``, plus a code, or a value with a
            decimal part, that was received: int64, ascending.
        counts: How often: int64, as many as ``keys``; those of a combination add up to
            ``repetitions``.
        repetitions: How often each combination was sent; 1 for a chip without noise.
    """

    scenario: Scenario
    keys: Tensor
    counts: Tensor
    repetitions: int

    @cached_property
    def _ordered(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Index, code and count, by index and then from the most to the least frequent code."""
        bits = self.scenario.received_bits
        index, code = self.keys >> bits, self.keys & (2**bits - 1)
        order = (index * (self.repetitions + 1) + self.repetitions - self.counts).sort(stable=True)
        index, code, counts = (each[order.indices] for each in (index, code, self.counts))
        return index, code, counts, index.diff(prepend=index.new_full((1,), -1)) != 0

    @cached_property
    def codes(self) -> Tensor:
        """The most frequent code of each combination, the smaller of equals: int32 [C]."""
        _, code, _, first = self._ordered
        return code[first].to(torch.int32)

    @cached_property
    def deviations(self) -> Tensor:
        """All other codes, by combination and falling probability: int32 [D]."""
        _, code, _, first = self._ordered
        return code[~first].to(torch.int32)

    @cached_property
    def rows(self) -> Tensor:
        """Where the deviations of each combination begin, and where the last end: int32 [C + 1]."""
        index, _, _, first = self._ordered
        found = index[~first].bincount(minlength=self.scenario.combinations)
        return torch.nn.functional.pad(found.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def thresholds(self) -> Tensor:
        """Probability of this or an earlier deviation of the combination, in 2^-32: int64 [D].

        A combination is received as the first of its deviations whose threshold lies above 32
        random bits, and as its most frequent code where there is none.
        """
        _, _, counts, first = self._ordered
        deviating = torch.where(first, 0, counts).cumsum(0)
        # Where a combination begins the sum still holds those before it, and grows no further.
        before = deviating[first].repeat_interleave(self._outcomes)
        return ((deviating - before)[~first] << 32) // self.repetitions

    @property
    def _outcomes(self) -> Tensor:
        """Number of different codes of each combination [C]."""
        return self.rows.diff() + 1

    @cached_property
    def wrong(self) -> Tensor:
        """Probability that a combination is received wrong (eq. 3): float64 [C]."""
        index, code, counts, _ = self._ordered
        wrong = code != ideal_codes(self.scenario)[index]
        weights = torch.where(wrong, counts, 0).double()
        found = index.bincount(weights=weights, minlength=self.scenario.combinations)
        return found / self.repetitions

    @property
    def wrong_inputs(self) -> int:
        """Combinations whose most frequent code is wrong."""
        return int((self.codes != ideal_codes(self.scenario)).sum())

    @property
    def error_rate(self) -> float:
        """Probability of a wrong code, all combinations being equally likely."""
        return float(self.wrong.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of :attr:`error_rate`; 0 for a chip without noise.

        At least that of one wrong code among all: none found is not none possible.
        """
        if self.repetitions == 1:
            return 0.0
        combinations = self.scenario.combinations
        variance = float((self.wrong * (1 - self.wrong)).sum()) / self.repetitions
        return max(math.sqrt(variance), 1 / self.repetitions) / combinations

    @cached_property
    def sha256(self) -> str:
        """Hash of what was received how often."""
        digest = hashlib.sha256(self.keys.numpy().data)
        digest.update(self.counts.numpy().data)
        return digest.hexdigest()


@torch.no_grad()
def tabulate_outcomes(
    chip: DrawnChips, *, repetitions: int, seed: int = 0, path: Path | None = None
) -> OutcomeTable:
    """Send every combination of ONN inputs through a chip, and count the codes received.

    Where the chip needs the servers' symbols, they are drawn anew each time, among those with the
    combination's sums and all equally likely (:func:`.server_symbols.draw_codes`).

    Args:
        chip: One chip, with a scenario that can be tabulated.
        repetitions: How often each combination is sent; 1 for a chip without noise.
        seed: Seed of the noise.
        path: File in which the table is kept, and from which it is read if it is there; None keeps
            it nowhere. What is done of a long one is kept beside it, and gone on from.
    """
    size = chip.scenario.combinations
    step = max(1, ROWS // repetitions)

    def count(first: int) -> tuple[Tensor, Tensor]:
        index_P = torch.arange(first, min(first + step, size)).repeat_interleave(repetitions)
        code_P = _send(chip, index_P, generator_of(seed, reduction=0, place=first))
        keys, counts = (index_P << chip.scenario.received_bits | code_P).unique(  # type: ignore[no-untyped-call]
            return_counts=True
        )
        return keys, counts

    kept = _checked(path, count, step)
    if kept is not None and kept.done == size:
        return OutcomeTable(chip.scenario, kept.keys, kept.counts, repetitions)
    partial = None if path is None else path.with_suffix(".partial")
    begun = _checked(partial, count, step)
    progress = _Progress(path, partial, begun, size=size, repetitions=repetitions)
    batches = range(progress.done, size, step)
    for first in with_bar(batches, "tabulating the chip", hidden=size * repetitions <= MANY):
        progress.add(*count(first), done=min(first + step, size))
    keys, counts = progress.end()
    return OutcomeTable(chip.scenario, keys, counts, repetitions)


def _send(chip: DrawnChips, index_P: Tensor, generator: torch.Generator) -> Tensor:
    """Send combinations through a chip: indices [P] -> received codes, int64 [P]."""
    sums_PK = preprocessing.sums_of_index(index_P, chip.scenario)
    if chip.needs_servers:
        codes_NP = draw_codes(sums_PK, chip.scenario, generator=generator)
        amplitudes = chip.emit(codes_NP, generator=generator)
    else:
        averages_PK = samples_of_sums(sums_PK, chip.scenario).averages_PK
        amplitudes = chip(averages_PK, generator=generator)
    return chip.receive(amplitudes)[0].long()


@dataclass(frozen=True)
class _Kept:
    """A table, or the part of it that is done."""

    keys: Tensor
    counts: Tensor
    done: int

    def holds(self, keys: Tensor, counts: Tensor) -> bool:
        """Whether neighbouring combinations have these keys and counts, and no others."""
        first, last = torch.searchsorted(self.keys, keys[[0, -1]]).tolist()
        part = slice(first, last + 1)
        return torch.equal(self.keys[part], keys) and torch.equal(self.counts[part], counts)


def _checked(
    path: Path | None, count: Callable[[int], tuple[Tensor, Tensor]], step: int
) -> _Kept | None:
    """Read a stored table, and send some of its batches again; None if it is not that of the chip.

    Args:
        path: The file; None for none.
        count: Sends the batch that begins at a combination; returns keys and counts.
        step: Combinations of a batch.
    """
    kept = None if path is None else _read(path)
    if kept is None:
        return None
    batches = max(1, kept.done // step)
    if all(kept.holds(*count(batches * share // CHECKED * step)) for share in range(CHECKED)):
        return kept
    logger.warning("the cached table %s is not that of this chip; tabulating again", path)
    return None


class _Progress:
    """Collects a table, logs how far it is, and keeps what is done of a long one."""

    def __init__(
        self,
        path: Path | None,
        partial: Path | None,
        begun: _Kept | None,
        *,
        size: int,
        repetitions: int,
    ) -> None:
        self.path, self.partial, self.size = path, partial, size
        self.done = 0 if begun is None else begun.done
        empty = torch.empty(0, dtype=torch.int64)
        self.keys = [empty if begun is None else begun.keys]
        self.counts = [empty if begun is None else begun.counts]
        self.start = self.saved = time.monotonic()
        self.long = size * repetitions > MANY
        if self.long:
            logger.info(
                "tabulating %d of the chip's %d inputs, %d times each",
                size - self.done,
                size,
                repetitions,
            )

    def add(self, keys: Tensor, counts: Tensor, *, done: int) -> None:
        """Add the next combinations; log and keep what is done, unless that was a moment ago."""
        self.keys.append(keys)
        self.counts.append(counts)
        self.done = done
        now = time.monotonic()
        if now - self.saved < SECONDS_BETWEEN_SAVES:
            return
        self.saved = now
        share = 100 * done / self.size
        logger.info("tabulated %.0f %% of the chip's inputs, %.0f s", share, now - self.start)
        if self.partial is not None:
            _write(self.partial, self._all())

    def end(self) -> tuple[Tensor, Tensor]:
        """Keep and return the finished table."""
        whole = self._all()
        if self.path is not None and self.partial is not None:
            _write(self.path, whole)
            self.partial.unlink(missing_ok=True)
        if self.long:
            seconds = time.monotonic() - self.start
            logger.info("tabulated the chip's %d inputs, %.0f s", self.size, seconds)
        return whole.keys, whole.counts

    def _all(self) -> _Kept:
        self.keys, self.counts = [torch.cat(self.keys)], [torch.cat(self.counts)]
        return _Kept(self.keys[0], self.counts[0], self.done)


def _read(path: Path) -> _Kept | None:
    """Read a stored table, whole or in part; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            kept = _Kept(
                file.get_tensor("keys"), file.get_tensor("counts"), int(metadata.get("done", 0))
            )
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        logger.warning("cached table %s is damaged (%s); tabulating again", path, error)
        return None
    if metadata.get("sha256") != _sha256(kept):
        logger.warning("cached table %s fails the check of its SHA-256; tabulating again", path)
        return None
    return kept


def _write(path: Path, kept: _Kept) -> None:
    metadata = {"sha256": _sha256(kept), "done": str(kept.done)}
    data = safetensors.torch.save({"keys": kept.keys, "counts": kept.counts}, metadata=metadata)
    try:
        # Other processes may read or write the same table meanwhile.
        write_atomically(path, data)
    except OSError as error:
        warn_of_cache(str(path.parent), reason(error))


def _sha256(kept: _Kept) -> str:
    digest = hashlib.sha256(kept.keys.numpy().data)
    digest.update(kept.counts.numpy().data)
    digest.update(str(kept.done).encode())
    return digest.hexdigest()
