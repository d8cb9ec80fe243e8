"""The truth table of an ONN: index of the K ONN inputs -> received code."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.atomic_file import reason, write_atomically
from optinc.errors import ConfigurationError
from optinc.folders import cache_folder, warn_of_cache
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import evaluate_sampled, share_wrong
from optinc.onn.progress import with_bar
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import MAX_TABLE_ENTRIES, Scenario

logger = logging.getLogger(__name__)

MANY = 1 << 20
"""Number of possible inputs above which tabulating takes minutes: it is logged, what is done is
kept when it is interrupted, and a shipped ONN known to be right on all inputs is only sampled."""

SAMPLES = 1 << 16
"""Number of inputs of such a sample, half of them worst cases of carries."""

SAFE_MARGIN = 0.001
"""Smallest margin in PAM4 amplitudes that no other machine's float32 rounding can turn wrong."""

SECONDS_BETWEEN_SAVES = 30.0

BATCH_SIZE = 1 << 12
"""Inputs tabulated at once: activations that fit a CPU's cache take a quarter less time."""


@dataclass(frozen=True)
class TruthTable:
    """Received code for every possible combination of ONN inputs.

    Attributes:
        codes: Received codes, int32 tensor [combinations], by the mixed-radix index of the ONN
            inputs; in units of 1/N^l where the decimal part is kept (eq. 10).
        wrong_inputs: Number of entries that differ from the quantised average of eq. (3).
    """

    codes: Tensor
    wrong_inputs: int

    @classmethod
    def counted(cls, codes: Tensor, scenario: Scenario) -> TruthTable:
        """Build a table of codes, int32 [combinations], and count its wrong entries."""
        return cls(codes=codes, wrong_inputs=int((codes != ideal_codes(scenario)).sum()))

    @classmethod
    def of(cls, onn: ONNArtifact, *, cache: Path | str | None = None) -> TruthTable:
        """Tabulate a trained ONN, or read its table from the cache.

        Wrong entries are always counted anew. The table of a shipped ONN with more than
        :data:`MANY` inputs, all of them right when it was made and by :data:`SAFE_MARGIN`, is that
        of eq. (3); a sample is sent through the network all the same.

        Args:
            onn: The trained ONN.
            cache: Folder of cached tables, named by the SHA-256 of the weights; None for no cache.
                A table that is damaged, or contradicts the card, is tabulated again, with a
                warning. Where the folder cannot be used, there is no cache.

        Raises:
            ConfigurationError: If the scenario has too many possible inputs to tabulate.
        """
        card, scenario = onn.card, onn.card.scenario
        if not scenario.tabulable:
            raise ConfigurationError(
                f"optinc/fidelity=table cannot tabulate {scenario.combinations} inputs "
                f"(at most {MAX_TABLE_ENTRIES}); use optinc/fidelity=ideal or onn"
            )
        if _known_to_be_right(onn):
            return cls(codes=ideal_codes(scenario), wrong_inputs=0)
        folder = cache_folder(cache)
        path = folder / f"{card.weights_sha256}.safetensors" if folder is not None else None
        codes = _read(path, scenario, entries=scenario.combinations) if path is not None else None
        if codes is not None:
            table = cls.counted(codes, scenario)
            if table.wrong_inputs == card.wrong_inputs:
                return table
            logger.warning("cached table %s contradicts the ONN's card; tabulating again", path)
        table = tabulate(onn.network, scenario, path=path)
        if table.wrong_inputs != card.wrong_inputs:
            logger.warning(
                "here the ONN receives %s wrong, but its card says %d",
                share_wrong(table.wrong_inputs, scenario.combinations),
                card.wrong_inputs,
            )
        return table


def ideal_codes(scenario: Scenario) -> Tensor:
    """Return the codes of an ONN that is right on every input, int32 [combinations] (eqs. 3, 10).

    They depend on the sum of all codes only, which is the sum of one term for each ONN input.
    """
    inputs = torch.eye(len(scenario.radices), dtype=torch.int64)
    weights = preprocessing.code_total(inputs, scenario).tolist()
    total = torch.zeros(1, dtype=torch.int32)
    for weight, radix in zip(weights, scenario.radices, strict=True):
        terms = weight * torch.arange(radix, dtype=torch.int32)
        total = (total.unsqueeze(-1) + terms).flatten()
    possible = torch.arange(int(total.max()) + 1)
    values = outputs.value_of_outputs(outputs.outputs_of_total(possible, scenario), scenario)
    return values.to(torch.int32).index_select(0, total)


def _known_to_be_right(onn: ONNArtifact) -> bool:
    """Whether a shipped ONN of many inputs is right on all: by its card, and on a sample here."""
    card = onn.card
    if (
        card.exhaustive_inputs <= MANY
        or card.evaluated_inputs < card.exhaustive_inputs
        or card.wrong_inputs
        or card.smallest_margin < SAFE_MARGIN
        or not zoo.is_shipped(card)
    ):
        return False
    sample = evaluate_sampled(onn.network, card.scenario, samples=SAMPLES)
    if sample.wrong_inputs:
        logger.warning(
            "the shipped ONN with SHA-256 %s... is right on every input, but here it receives "
            "%d of a sample of %d wrong; tabulating it",
            card.weights_sha256[:12],
            sample.wrong_inputs,
            sample.evaluated_inputs,
        )
    return not sample.wrong_inputs


@torch.no_grad()
def tabulate(network: nn.Module, scenario: Scenario, *, path: Path | None = None) -> TruthTable:
    """Send every possible input through a network, and store the received codes.

    Args:
        network: Maps averages [P, K] to outputs [P, M] in PAM4 amplitudes.
        scenario: The switch that the network serves.
        path: File in which the codes are kept; None keeps them nowhere. Of many inputs, what is
            done is kept beside it meanwhile, and an interrupted tabulation goes on from there.
    """
    device = next(network.parameters()).device
    size = scenario.combinations
    codes = torch.empty(size, dtype=torch.int32)
    progress = _Progress(codes, scenario, path=path) if size > MANY else None
    done = progress.resume() if progress is not None else 0
    batches = range(done, size, BATCH_SIZE)
    for first in with_bar(batches, "tabulating the ONN", hidden=size <= BATCH_SIZE):
        end = min(first + BATCH_SIZE, size)
        averages, _ = samples_of_index(torch.arange(first, end, device=device), scenario)
        emitted = outputs.receive(network(averages), scenario)
        codes[first:end] = outputs.value_of_outputs(emitted, scenario).cpu()
        if progress is not None:
            progress.note(end)
    if path is not None:
        _write(path, codes)
    if progress is not None:
        progress.end()
    return TruthTable.counted(codes, scenario)


class _Progress:
    """Logs how far a long tabulation is, and keeps what is done.

    Args:
        codes: Codes that are being filled in, int32 [combinations].
        scenario: The switch that they are of.
        path: File of the finished table; None keeps nothing.
    """

    def __init__(self, codes: Tensor, scenario: Scenario, *, path: Path | None) -> None:
        self.codes = codes
        self.scenario = scenario
        self.path = None if path is None else path.with_suffix(".partial")
        self.start = self.saved = time.monotonic()

    def resume(self) -> int:
        """Fill in the codes of an interrupted tabulation; return their number."""
        kept = None if self.path is None else _read(self.path, self.scenario)
        done = 0 if kept is None else len(kept)
        if kept is not None:
            self.codes[:done] = kept
        logger.info("tabulating %d of the ONN's %d inputs", len(self.codes) - done, len(self.codes))
        return done

    def note(self, done: int) -> None:
        """Log and keep the first ``done`` codes, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self.saved < SECONDS_BETWEEN_SAVES:
            return
        self.saved = now
        share, seconds = done / len(self.codes), now - self.start
        logger.info("tabulated %.0f %% of the ONN's inputs, %.0f s", 100 * share, seconds)
        if self.path is not None:
            _write(self.path, self.codes[:done])

    def end(self) -> None:
        """Log the time that it took, and remove what was kept."""
        seconds = time.monotonic() - self.start
        logger.info("tabulated the ONN's %d inputs, %.0f s", len(self.codes), seconds)
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _read(path: Path, scenario: Scenario, *, entries: int | None = None) -> Tensor | None:
    """Read stored codes, all or the first ones; None if they are missing or damaged.

    Args:
        path: The file.
        scenario: The switch that they are of.
        entries: Number of codes; None for any number.
    """
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            codes: Tensor = file.get_tensor("codes")
            sha256 = (file.metadata() or {}).get("sha256")
    except (safetensors.SafetensorError, OSError) as error:
        logger.warning("cached table %s is damaged (%s); tabulating again", path, error)
        return None
    lengths = range(scenario.combinations + 1) if entries is None else [entries]
    if codes.ndim != 1 or len(codes) not in lengths or codes.dtype != torch.int32:
        logger.warning("cached table %s has a wrong shape; tabulating again", path)
        return None
    if sha256 != _sha256(codes):
        logger.warning("cached table %s fails the check of its SHA-256; tabulating again", path)
        return None
    return codes


def _write(path: Path, codes: Tensor) -> None:
    data = safetensors.torch.save({"codes": codes}, metadata={"sha256": _sha256(codes)})
    try:
        # Other processes may read or write the same table meanwhile.
        write_atomically(path, data)
    except OSError as error:
        warn_of_cache(str(path.parent), reason(error))


def _sha256(codes: Tensor) -> str:
    return hashlib.sha256(codes.numpy().data).hexdigest()
