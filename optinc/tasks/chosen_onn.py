"""The ONN that a task works on."""

from __future__ import annotations

from omegaconf import DictConfig

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.tasks.instantiate import instantiate


def chosen_onn(cfg: DictConfig) -> ONNArtifact:
    """Load the ONN that ``onn=`` names, whatever it serves, or that of the optinc settings.

    Raises:
        MissingONNError, ArtifactError: If there is no such ONN or it is damaged.
    """
    if cfg.onn is not None:
        return zoo.load_named(cfg.onn)
    onn: ONNArtifact = instantiate(cfg.optinc.onn)
    return onn
