"""Whether model and data fit each other: images or text."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from optinc.data.base import OptINCDataModule
from optinc.errors import ConfigurationError
from optinc.models.base import OptINCModel

CHOICES = ("experiment", "arm", "model", "data", "reducer", "strategy")
"""Groups whose option is noted in the summary."""


def check_modality(cfg: DictConfig, datamodule: OptINCDataModule) -> None:
    """Refuse a model for images with text, and the reverse."""
    model_class: type[OptINCModel] = hydra.utils.get_class(cfg.model._target_)
    modality = model_class.modality
    if modality != datamodule.modality:
        fitting = {"images": "digits, cifar100", "text": "pydocs, text, wikipedia"}[modality]
        raise ConfigurationError(
            f"model={cfg.choices.model} takes {modality} (data={fitting}), but "
            f"data={cfg.choices.data} holds {datamodule.modality}"
        )
