"""What no strategy can train: gradients that cannot be sent, scaled losses, used reducers."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import nn

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer


def check_trainable(module: nn.Module, reducer: Reducer, *, scaler: Any | None) -> None:
    """Refuse a module whose gradients cannot be reduced, before the training starts.

    Args:
        module: The module to train.
        reducer: What will average its gradients.
        scaler: Loss scaler of 16-bit precision; None where there is none.

    Raises:
        ConfigurationError: If a trained parameter is complex or has sparse gradients (names it), or
            the loss is scaled and the reducer does not let infinity pass, or keeps errors.
    """
    check_gradients(module)
    if scaler is not None and not reducer.propagates_nonfinite:
        raise ConfigurationError(
            "trainer.precision=16-mixed scales the loss until gradients overflow, and skips "
            "such steps itself; it needs optinc.quantization.nonfinite=propagate"
        )
    if scaler is not None and reducer.feeds_back:
        raise ConfigurationError(
            "trainer.precision=16-mixed scales the loss by a factor that changes, and the reducer "
            "would add errors of one scale to gradients of another: choose bf16-mixed, or "
            "optinc.quantization.error_feedback=false (reducer.error_feedback of thc; powersgd "
            "always keeps errors)"
        )


_models: WeakKeyDictionary[Reducer, ReferenceType[nn.Module]] = WeakKeyDictionary()
"""The model that every reducer has worked for."""


def claim(reducer: Reducer, model: nn.Module) -> None:
    """Note the model that a reducer works for.

    Raises:
        ConfigurationError: If it has reduced gradients of another one, whose errors and counts
            would be taken for this one's.
    """
    used = reducer in _models and reducer.accounting.reductions > 0
    if used and _models[reducer]() is not model:
        raise ConfigurationError(
            f"this reducer averaged {reducer.accounting.reductions} gradients of another model, "
            "whose counts and errors it holds: build a reducer, and a strategy, for every model"
        )
    _models[reducer] = ref(model)


def check_gradients(module: nn.Module) -> None:
    """Refuse parameters whose gradients cannot be sent as symbols.

    Sparse gradients of other layers than torch's are found at the first step
    (:meth:`~optinc.strategies.flat_parameters.FlatParameters.take_gradients`).

    Raises:
        ConfigurationError: If a trained parameter is complex or has sparse gradients; names it.
    """
    for name, layer in module.named_modules():
        sparse = isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.sparse
        if sparse and layer.weight.requires_grad:
            raise ConfigurationError(
                f"parameter '{name + '.' if name else ''}weight' has a sparse gradient, which "
                "cannot be sent as symbols; build its layer with sparse=False"
            )
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.is_complex():
            raise ConfigurationError(
                f"parameter '{name}' is complex ({parameter.dtype}): its gradient cannot be sent "
                "as symbols; train its real and imaginary part (torch.view_as_real)"
            )
