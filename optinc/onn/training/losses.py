"""Losses of an ONN's training: the two stages of eq. (7), and a loss with the receiver's margin."""

# Shape suffixes: P samples, M symbols.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.training.settings import check_below


class ONNLoss(ABC):
    """Loss between analog outputs and the symbols to be received."""

    @abstractmethod
    def __call__(
        self,
        amplitudes_PM: Tensor,
        symbols_PM: Tensor,
        *,
        epoch: int,
        steps_M: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            amplitudes_PM: Outputs in PAM4 amplitudes, float [P, M].
            symbols_PM: Targets in steps of their output, integer [P, M].
            epoch: 0-based epoch of the training.
            steps_M: Steps of each output per PAM4 amplitude, float [M], ``output_steps`` of the
                scenario; None for 1.
        """


class PaperLoss(ONNLoss):
    """The two-stage loss of eq. (7).

    Stage 1 is the mean over samples of the squared error of each symbol, weighted by the symbol's
    importance W_T. Stage 2 is the mean squared error of the reconstructed gradient
    G = sum_i 4^(M-i) o_i, in units of full scale, so that both stages are of similar size.

    Args:
        first_stage_epochs: E1, the number of epochs of stage 1.
        symbol_weights: W_T: ``uniform``, ``positional`` (4^(M-i), normalised to mean 1) or a list
            of M positive weights, most significant first. The paper does not specify W_T.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    def __init__(
        self,
        *,
        first_stage_epochs: int,
        symbol_weights: Literal["uniform", "positional"] | Sequence[float],
    ) -> None:
        if first_stage_epochs < 0:
            raise ConfigurationError(
                f"onn_training.loss.first_stage_epochs must be at least 0, got {first_stage_epochs}"
            )
        if isinstance(symbol_weights, str):
            if symbol_weights not in ("uniform", "positional"):
                raise ConfigurationError(
                    "onn_training.loss.symbol_weights must be uniform | positional or a list of "
                    f"weights, got {symbol_weights!r}"
                )
        elif not symbol_weights or min(symbol_weights) <= 0:
            raise ConfigurationError(
                f"onn_training.loss.symbol_weights must be positive, got {list(symbol_weights)}"
            )
        self.first_stage_epochs = first_stage_epochs
        self.symbol_weights = symbol_weights

    def __call__(
        self,
        amplitudes_PM: Tensor,
        symbols_PM: Tensor,
        *,
        epoch: int,
        steps_M: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`ONNLoss.__call__`."""
        error_PM = amplitudes_PM - (symbols_PM if steps_M is None else symbols_PM / steps_M)
        if epoch < self.first_stage_epochs:
            return (error_PM.square() * self.weights(error_PM)).mean()
        place_M = _place_values(error_PM)
        return ((error_PM * place_M).sum(-1) / (place_M.sum() * 3)).square().mean()

    def weights(self, like_PM: Tensor) -> Tensor:
        """Return the symbol weights W_T, float [M] with mean 1.

        Args:
            like_PM: Tensor of M columns, whose dtype and device the weights get.

        Raises:
            ConfigurationError: If W_T is a list of another length than M.
        """
        if self.symbol_weights == "uniform":
            return torch.ones_like(like_PM[0])
        if self.symbol_weights == "positional":
            place_M = _place_values(like_PM)
            return place_M / place_M.mean()
        weights_M = torch.tensor(self.symbol_weights, dtype=like_PM.dtype, device=like_PM.device)
        if weights_M.shape != like_PM.shape[-1:]:
            raise ConfigurationError(
                f"onn_training.loss.symbol_weights must hold {like_PM.shape[-1]} weights, one per "
                f"symbol, got {len(weights_M)}"
            )
        return weights_M / weights_M.mean()


def _place_values(like_PM: Tensor) -> Tensor:
    """Return the place values 4^(M-i) of the symbols, most significant first, float [M]."""
    symbols = like_PM.shape[-1]
    exponents = torch.arange(symbols - 1, -1, -1, dtype=like_PM.dtype, device=like_PM.device)
    return 4.0**exponents


class MarginLoss(ONNLoss):
    """Squared error beyond a tolerance of the receiver, max(|o - target| - tolerance, 0)^2.

    Only inputs that are wrong or near a threshold are trained on, so the last wrong inputs vanish
    much faster than with a plain squared error.

    Args:
        tolerance: Tolerated error in steps of an output, which are PAM4 amplitudes except for
            decimal parts; at least 0 and below 0.5, the distance of a threshold.

    Raises:
        ConfigurationError: If the tolerance is not in [0, 0.5).
    """

    def __init__(self, *, tolerance: float) -> None:
        check_below("onn_training.loss.tolerance", tolerance, limit=0.5)
        self.tolerance = tolerance

    def __call__(
        self,
        amplitudes_PM: Tensor,
        symbols_PM: Tensor,
        *,
        epoch: int,
        steps_M: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`ONNLoss.__call__`."""
        emitted_PM = amplitudes_PM if steps_M is None else amplitudes_PM * steps_M
        error_PM = (emitted_PM - symbols_PM).abs() - self.tolerance
        return error_PM.clamp(min=0).square().mean()


def tolerable_deviation(*, right: float, outputs: int, margin: float = 0.5) -> float:
    """Return how far errors may move outputs, as a sigma, for a share of inputs to be right.

    Errors are Gaussian around the targets and independent; an input is right where no output is
    moved beyond the margin, so sigma = margin / Q^-1((1 - right^(1/outputs)) / 2) with the tail Q
    of the normal distribution. What errors of a chip in the loop move need no further margin of the
    loss: ``tolerance`` leaves room for what the loop does not play.

    Args:
        right: Share of inputs that is to be right, above 0 and below 1.
        outputs: Number M of outputs.
        margin: Distance of a receiver's threshold from a target, in the unit of the result.

    Raises:
        ValueError: If the share is not in (0, 1).
    """
    if not 0 < right < 1:
        raise ValueError(f"the share must be above 0 and below 1, got {right}")
    return margin / -NormalDist().inv_cdf((1 - right ** (1 / outputs)) / 2)
