"""Model and data of a run, refused unless both are of images or both of text."""

from __future__ import annotations

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig
from torch import Tensor, nn

from optinc.data.base import OptINCDataModule
from optinc.errors import ConfigurationError
from optinc.models.base import OptINCModel
from optinc.tasks.instantiate import instantiate


def model_and_data(cfg: DictConfig, *, servers: int = 1) -> tuple[OptINCModel, OptINCDataModule]:
    """Prepare the data and build the model, whose initial weights depend on ``seed`` only.

    Args:
        cfg: The configuration of the run.
        servers: Servers that share a batch.

    Raises:
        ConfigurationError: If settings are illegal, or the model does not take these data.
        DatasetNotFoundError: If the data are missing.
    """
    datamodule: OptINCDataModule = instantiate(cfg.data)
    datamodule.servers = servers
    check_modality(cfg, datamodule)
    datamodule.prepare_data()
    # Not earlier: initial weights must not depend on what reducers and data sets drew before.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    model: OptINCModel = instantiate(cfg.model, **datamodule.model_arguments)
    return model, datamodule


def check_modality(cfg: DictConfig, datamodule: OptINCDataModule) -> None:
    """Refuse a model for images with text, and the reverse.

    Raises:
        ConfigurationError: Names the data that the model takes.
    """
    model_class: type[OptINCModel] = hydra.utils.get_class(cfg.model._target_)
    modality = model_class.modality
    if modality != datamodule.modality:
        fitting = {"images": "digits, cifar100", "text": "pydocs, text, wikipedia"}[modality]
        raise ConfigurationError(
            f"model={cfg.choices.model} takes {modality} (data={fitting}), but "
            f"data={cfg.choices.data} holds {datamodule.modality}"
        )


def check_weights(model: nn.Module, weights: dict[str, Tensor], cfg: DictConfig) -> None:
    """Refuse the weights of a checkpoint for a model that they do not fit.

    Raises:
        ConfigurationError: If names or shapes differ; names the first that does.
    """
    expected = {name: list(value.shape) for name, value in model.state_dict().items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    for name in [*expected, *found]:
        here, there = expected.get(name), found.get(name)
        if here != there:
            raise ConfigurationError(
                f"ckpt_path={cfg.ckpt_path} does not fit model={cfg.choices.model} and "
                f"data={cfg.choices.data} as its run and this command configure them: {name} has "
                f"the shape {there or 'of nothing'} in the checkpoint, {here or 'of nothing'} in "
                "the model"
            )
