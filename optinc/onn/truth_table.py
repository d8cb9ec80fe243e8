"""The exact table of a trained ONN: index of the K inputs -> received code."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

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
        codes: int32 tensor [combinations], addressed by the mixed-radix index of the inputs; where
            the decimal part is kept, N^l times the code with it.
        wrong_inputs: Entries that differ from the ideal quantised average.
    """

    codes: Tensor
    wrong_inputs: int

    @classmethod
    def of(cls, onn: ONNArtifact, *, cache: Path | str | None = None) -> TruthTable:
        """Tabulate a trained ONN, or read its table from the cache.

        Args:
            onn: The trained ONN.
            cache: Folder of cached tables, named by the SHA-256 of the weights; None for no cache.

        Raises:
            ConfigurationError: If the scenario has too many inputs to tabulate.
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
        # A reader must never see half a file, nor two writers mix theirs: write aside, then rename.
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        wrong = torch.tensor(self.wrong_inputs)
        safetensors.torch.save_file({"codes": self.codes, "wrong_inputs": wrong}, aside)
        aside.replace(path)


@torch.no_grad()
def tabulate(network: nn.Module, scenario: Scenario) -> TruthTable:
    """Send every possible input through the network and note the received code.

    Args:
        network: Maps [P, K] averages to [P, M] outputs in PAM4 amplitudes.
        scenario: The switch the network is meant for.
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
