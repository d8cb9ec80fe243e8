"""Attachment to the Trainer of Hugging Face, which wraps its model when the training begins."""

from __future__ import annotations

import sys
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from optinc.attachments.ddp import DDPAttachment
from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.shipped import default_reducer


def is_trainer(model: object) -> bool:
    """Tell whether an object is a ``transformers.Trainer``, without importing transformers."""
    module = sys.modules.get("transformers.trainer")
    return module is not None and isinstance(model, module.Trainer)


def attach_at_begin(trainer: Any, reducer: Reducer | None) -> Reducer:
    """Attach a reducer to the model of a ``transformers.Trainer`` when its training begins.

    Returns:
        The reducer.

    Raises:
        ConfigurationError: If a reducer is attached already. When the training begins: if the
            trainer has not wrapped its model in ``DistributedDataParallel``, or as
            :class:`~optinc.attachments.ddp.DDPAttachment`.
    """
    from transformers import TrainerCallback  # noqa: PLC0415  (the user has imported it)

    chosen = default_reducer(trainer.args.world_size) if reducer is None else reducer

    class AttachReducer(TrainerCallback):  # type: ignore[misc]
        """Attaches the reducer to every new wrapper of the model."""

        model: Any = None

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            if trainer.model_wrapped is not self.model:
                self.model = trainer.model_wrapped
                _attach(self.model, chosen)

    callbacks = trainer.callback_handler.callbacks
    if any(type(callback).__name__ == AttachReducer.__name__ for callback in callbacks):
        raise ConfigurationError("optinc.attach: a reducer is attached to this Trainer")
    trainer.add_callback(AttachReducer())
    return chosen


def _attach(model: Any, reducer: Reducer) -> None:
    if not isinstance(model, DistributedDataParallel):
        raise ConfigurationError(
            f"optinc.attach: the Trainer trains a {type(model).__name__}, not a "
            "DistributedDataParallel model; start several processes with torchrun, without "
            "deepspeed or fsdp"
        )
    DDPAttachment(model, reducer)
