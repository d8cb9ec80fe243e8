"""Statistics of the optical path for every layer of a model (``callbacks=signal_statistics``)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from optinc.callbacks.signal_plots import WHOLE, Point, write_curves
from optinc.errors import ConfigurationError, OutputError
from optinc.reducers.base import Reducer
from optinc.reducers.signal_observer import SignalObserver
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lightning_package import pl
from optinc.strategies.parameter_groups import parameter_groups
from optinc.strategies.virtual_servers import VirtualServersStrategy

log = logging.getLogger(__name__)


class SignalStatistics(pl.Callback):
    """Logs statistics of the reduction of every group of parameters, and plots them at the end.

    Every k-th optimiser step, the first included, the loggers get ``signal/GROUP/QUANTITY`` of each
    group and ``signal/QUANTITY`` of the whole gradient, all in one row; for the quantities, see
    :class:`~optinc.reducers.measures.signal_terms.GroupStatistics`. When the training ends,
    complete or not, all values are written to ``signal_statistics.csv`` and plotted in
    ``signal_statistics.png``. Observing changes no bit of the training.

    Steps that are skipped for NaN or infinity have no statistics. A training that is resumed begins
    new curves.

    Args:
        every_n_steps: Optimiser steps k from one observed step to the next, at least 1.
        depth: Components of a group's name, at least 1, see
            :func:`~optinc.strategies.parameter_groups.parameter_groups`.
        folder: Folder of both files.

    Raises:
        ConfigurationError: If a setting is illegal; names it and the legal values.
    """

    def __init__(self, *, every_n_steps: int, depth: int, folder: Path | str) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("depth", depth)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(
                    f"callbacks.signal_statistics.{name} must be an integer of at least 1, "
                    f"got {value!r}"
                )
        self.every_n_steps = every_n_steps
        self.depth = depth
        self.folder = folder
        self.points: list[Point] = []
        self._restored: list[Point] = []
        self._names: list[str] = []
        self._layout: FlatParameters | None = None
        self._observer: SignalObserver | None = None
        self._step = 0
        self._loss_scale = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far for a checkpoint."""
        return {"points": [[*point[:3], float(point.value)] for point in self.points]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of a checkpoint, which a resumed training would replace."""
        self._restored = [Point(*values) for values in state_dict["points"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Group the parameters of the module.

        Raises:
            ConfigurationError: If the strategy has no reducer.
        """
        _reducer(trainer)
        self._group(FlatParameters(pl_module))
        self.points, self._restored = self._restored, []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Observe the reductions of every k-th step, on all servers."""
        self._step = trainer.global_step
        # The factor of 16-bit precision on the loss; it may change after the step.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._loss_scale = 1.0 if scaler is None else scaler.get_scale()
        observed = self._step % self.every_n_steps == 0
        _reducer(trainer).observer = self._observer if observed else None

    def on_before_zero_grad(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        """Group anew where other parameters are trained than before."""
        layout = FlatParameters(pl_module)
        assert self._layout is not None
        if layout.differences(self._layout):
            observed = _reducer(trainer).observer is not None
            self._group(layout)
            _reducer(trainer).observer = self._observer if observed else None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the observed statistics; none if this batch was only accumulated."""
        assert self._observer is not None
        observed = self._observer.take()
        if observed is None or not trainer.is_global_zero:
            return
        by_group, whole = observed
        metrics = {}
        for name, statistics in zip([*self._names, WHOLE], [*by_group, whole], strict=True):
            prefix = "signal" if name == WHOLE else f"signal/{name}"
            quantities = statistics.quantities()
            if "gradient_norm" in quantities:
                quantities["gradient_norm"] /= self._loss_scale
            for quantity, value in quantities.items():
                self.points.append(Point(self._step, name, quantity, value))
                metrics[f"{prefix}/{quantity}"] = value
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self._step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves of the training."""
        self._end(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write the curves of a training that was interrupted or has failed."""
        self._end(trainer)

    def _group(self, layout: FlatParameters) -> None:
        groups = parameter_groups(layout.names, layout.sizes, depth=self.depth)
        self._layout = layout
        self._names = [name for name, _ in groups]
        self._observer = SignalObserver([place for _, place in groups])

    def _end(self, trainer: pl.Trainer) -> None:
        if self._observer is None:
            return
        self._observer = _reducer(trainer).observer = None
        if not self.points:
            return
        try:
            write_curves(self.folder, self.points)
        except OutputError as error:
            # The trained weights are worth more than a plot.
            log.error("%s", error)  # noqa: TRY400


def _reducer(trainer: pl.Trainer) -> Reducer:
    strategy = trainer.strategy
    if not isinstance(strategy, (VirtualServersStrategy, OptINCDDPStrategy)):
        raise ConfigurationError(
            "callbacks=signal_statistics needs strategy=virtual_servers or strategy=ddp, whose "
            f"reducer it observes, got {type(strategy).__name__}"
        )
    return strategy.reducer
