"""The truth table of an ONN: index of the K ONN inputs -> received code."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.atomic_file import write_atomically
from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import index_batches
from optinc.signal import outputs
from optinc.signal.scenario import MAX_TABLE_ENTRIES, Scenario

logger = logging.getLogger(__name__)


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
    def of(cls, onn: ONNArtifact, *, cache: Path | str | None = None) -> TruthTable:
        """Tabulate a trained ONN, or read its table from the cache.

        Args:
            onn: The trained ONN.
            cache: Folder of cached tables, named by the SHA-256 of the weights; None for no cache.
                A damaged table is tabulated again, with a warning.

        Raises:
            ConfigurationError: If the scenario has too many possible inputs to tabulate.
        """
        scenario = onn.card.scenario
        if not scenario.tabulable:
            raise ConfigurationError(
                f"optinc/fidelity=table cannot tabulate {scenario.combinations} inputs "
                f"(at most {MAX_TABLE_ENTRIES}); use optinc/fidelity=ideal or onn"
            )
        path = Path(cache) / f"{onn.card.weights_sha256}.safetensors" if cache else None
        table = cls._read(path, scenario) if path is not None else None
        if table is None:
            table = tabulate(onn.network, scenario)
            if path is not None:
                table._write(path)
        return table

    @classmethod
    def _read(cls, path: Path, scenario: Scenario) -> TruthTable | None:
        """Read a cached table; None if it is missing or damaged."""
        if not path.is_file():
            return None
        try:
            tensors = safetensors.torch.load_file(path)
            codes, wrong = tensors["codes"], tensors["wrong_inputs"]
        except (safetensors.SafetensorError, KeyError, OSError) as error:
            logger.warning("cached table %s is damaged (%s); tabulating again", path, error)
            return None
        if codes.shape != (scenario.combinations,) or codes.dtype != torch.int32:
            logger.warning("cached table %s has a wrong shape; tabulating again", path)
            return None
        return cls(codes=codes, wrong_inputs=int(wrong))

    def _write(self, path: Path) -> None:
        tensors = {"codes": self.codes, "wrong_inputs": torch.tensor(self.wrong_inputs)}
        # Other processes may read or write the same table meanwhile.
        write_atomically(path, safetensors.torch.save(tensors))


@torch.no_grad()
def tabulate(network: nn.Module, scenario: Scenario) -> TruthTable:
    """Send every possible input through a network, and store the received codes.

    Args:
        network: Maps averages [P, K] to outputs [P, M] in PAM4 amplitudes.
        scenario: The switch that the network serves.
    """
    device = next(network.parameters()).device
    codes = torch.empty(scenario.combinations, dtype=torch.int32)
    wrong = 0
    for index in index_batches(scenario.combinations, device=device, progress="tabulating the ONN"):
        averages, symbols = samples_of_index(index, scenario)
        emitted = outputs.receive(network(averages), scenario)
        received = outputs.value_of_outputs(emitted, scenario)
        wrong += int((received != outputs.value_of_outputs(symbols, scenario)).sum())
        codes[index.cpu()] = received.cpu()
    return TruthTable(codes=codes, wrong_inputs=wrong)
