"""The settings of a training in its checkpoints, for the check of a later resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optinc.strategies.lightning_package import pl


class TrainingSettings(pl.Callback):
    """Stores settings with every checkpoint: the run's folder holds those of the last start only.

    Args:
        settings: Plain values by their dotted names.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings for a checkpoint."""
        return {"settings": self.settings}
