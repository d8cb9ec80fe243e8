"""Objects from configuration nodes, with OptINC's errors not wrapped into Hydra's."""

from __future__ import annotations

from typing import Any

import hydra
from hydra.errors import InstantiationException
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from optinc.errors import ConfigurationError, OptINCError


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Call :func:`hydra.utils.instantiate`, and turn what settings cause into one line.

    Raises:
        OptINCError: As a class of ours raises it.
        ConfigurationError: If a class is not found, or Lightning refuses a setting.
    """
    try:
        return hydra.utils.instantiate(node, *args, **kwargs)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OptINCError):
            if isinstance(cause, MisconfigurationException) or _of_setting(node, cause):
                raise ConfigurationError(f"{_name(node)}: {_first_line(cause)}") from error
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def _of_setting(node: Any, cause: BaseException) -> bool:
    """Tell whether a class was not found, or the trainer refuses one of its arguments."""
    if isinstance(cause, InstantiationException):
        return str(cause).startswith("Error locating target")
    is_trainer = getattr(node, "_target_", None) == "pytorch_lightning.Trainer"
    return is_trainer and isinstance(cause, ValueError | TypeError)


def _name(node: Any) -> str:
    # Copies of a node have no name of their own any more.
    name = node._get_full_key(None) if isinstance(node, DictConfig) else ""
    return str(name or getattr(node, "_target_", "configuration"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
