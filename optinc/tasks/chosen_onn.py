"""The ONN that ``onn=`` or the optinc settings choose."""

from __future__ import annotations

from omegaconf import DictConfig

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.tasks.instantiate import instantiate


def chosen_onn(cfg: DictConfig) -> ONNArtifact:
    """Load the ONN that ``onn=`` names, of any scenario, or else the ONN of the optinc settings.

    Raises:
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged.
    """
    if cfg.onn is not None:
        return zoo.load_named(cfg.onn)
    onn: ONNArtifact = instantiate(cfg.optinc.onn)
    return onn
