"""BatchNorm where a server gets one row: torch refuses it, often only at the end of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from optinc.errors import ConfigurationError

TORCHS_MESSAGE = "Expected more than 1 value per channel when training"


class SingleRows:
    """Refuses last batches that leave a server one row, once it is known what BatchNorm does.

    A layer with images needs no second row, one with vectors does: the first step tells.

    Args:
        module: The module to train.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = {n: m for n, m in module.named_modules() if isinstance(m, BatchNorm)}
        self._found: str | None = None

    @contextmanager
    def look(self) -> Iterator[None]:
        """Note a layer that would refuse a single row, during a forward pass."""
        handles = [
            layer.register_forward_pre_hook(self._note(name))
            for name, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def check(self, rows: int, servers: int) -> None:
        """Check the smallest batch to come.

        Raises:
            ConfigurationError: If a server gets one row of it, and BatchNorm needs two.
        """
        if self._found is not None and rows // servers == 1:
            raise _single_row(
                f"the last batch of an epoch has {rows} rows, which leaves one of {servers} "
                f"servers one row for BatchNorm ('{self._found}')"
            )

    def _note(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            # One value a row and channel.
            if layer.training and x.ndim > 1 and x.numel() == x.shape[0] * x.shape[1]:
                self._found = name

        return hook


@contextmanager
def explained(servers: int) -> Iterator[None]:
    """Say in one line what torch says of a single row.

    Raises:
        ConfigurationError: In place of torch's error.
    """
    try:
        yield
    except ValueError as error:
        if TORCHS_MESSAGE not in str(error):
            raise
        raise _single_row(
            f"one of {servers} servers gets one row of this batch, too few for BatchNorm"
        ) from error


def _single_row(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}; choose data.batch_size so that the last batch is larger, or drop it "
        "(drop_last=True)"
    )
