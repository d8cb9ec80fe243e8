"""Lightning's evaluations, shared by several servers exactly; by private names of Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from lightning_utilities.core.rank_zero import rank_zero_warn

from optinc.strategies.evaluations import Operation, Share, combine, count_samples_once
from optinc.strategies.lightning_internals import TRAINER_NAMES, require_names
from optinc.strategies.lightning_package import PACKAGE, RunningStage, pl

if TYPE_CHECKING or PACKAGE == "pytorch_lightning":
    from pytorch_lightning.trainer.connectors.logger_connector.result import (
        _ResultCollection,
        _ResultMetric,
    )
else:
    from lightning.pytorch.trainer.connectors.logger_connector.result import (
        _ResultCollection,
        _ResultMetric,
    )

BATCH_HOOKS = tuple(
    hook
    for stage in ("validation", "test")
    for hook in (f"{stage}_step", f"on_{stage}_batch_start", f"on_{stage}_batch_end")
)
"""Where a logged value belongs to a batch, whose samples are its weight."""


class EvaluationValues(_ResultCollection):
    """The values of an evaluation, over the batches of all servers whatever their number.

    Lightning averages only where ``sync_dist=True`` is given, sums and numbers of samples apart,
    and truncates the mean of the latter. Here every value that is logged for batches is combined
    exactly, once, when the evaluation ends; servers need not have equally many batches. Private
    because no argument chooses how values are combined. Values logged per step, those logged at
    the end of the epoch, and groups given by ``sync_dist_group`` stay Lightning's.

    Args:
        gather: Returns the objects of all servers in the order of the ranks.
    """

    def __init__(self, gather: Callable[[Any], list[Any]]) -> None:
        super().__init__(training=False)
        self.gather = gather

    def log(self, fx: str, name: str, *args: Any, **kwargs: Any) -> None:
        """Log a value; per step it is this server's own.

        A collective in every step would wait for ever for a server that has no more batches.
        """
        if fx in BATCH_HOOKS and kwargs.get("on_step") and kwargs.get("sync_dist"):
            rank_zero_warn(
                f"self.log('{name}', on_step=True, sync_dist=True) in {fx}: the values per step "
                "are server 0's; the value per epoch is that of all servers"
            )
            kwargs["sync_dist"] = False
        super().log(fx, name, *args, **kwargs)

    def metrics(self, on_step: bool) -> Any:
        """Return the values of a step, or those of the epoch over all servers."""
        if not on_step:
            self._combine()
        return super().metrics(on_step)

    def _combine(self) -> None:
        waiting = {key: metric for key, metric in self.valid_items() if _is_shared(metric)}
        if not waiting:
            return
        everyone = self.gather({key: _share(metric) for key, metric in waiting.items()})
        for key, metric in waiting.items():
            value = combine([shares[key] for shares in everyone if key in shares])
            metric._computed = metric.value.new_tensor(value)


def _is_shared(metric: _ResultMetric) -> bool:
    meta = metric.meta
    return (
        metric.is_tensor
        and metric._computed is None
        and meta.on_epoch
        and meta.fx.split(".")[0] in BATCH_HOOKS
        and meta.sync.group is None
        and not meta.sync.rank_zero_only
    )


def _share(metric: _ResultMetric) -> Share:
    operation = cast("Operation", metric.meta.reduce_fx.__name__)
    weight = float(metric.cumulated_batch_size) if operation == "mean" else 1.0
    return Share(operation, float(metric.value), weight)


def share_evaluations(trainer: pl.Trainer, gather: Callable[[Any], list[Any]]) -> None:
    """Let the servers share the evaluations of a trainer exactly.

    Private because Lightning's sampler repeats samples, and its values are averaged as
    :class:`EvaluationValues` says.

    Args:
        trainer: The trainer, before it loads data.
        gather: Returns the objects of all servers in the order of the ranks.
    """
    require_names(trainer, TRAINER_NAMES)
    for loop in (
        trainer.validate_loop,
        trainer.test_loop,
        trainer.fit_loop.epoch_loop.val_loop,
    ):
        loop._results = EvaluationValues(gather)
    connector = trainer._data_connector

    def prepare(dataloader: object, shuffle: bool, mode: RunningStage) -> object:
        loader = type(connector)._prepare_dataloader(connector, dataloader, shuffle, mode)
        if mode in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING):
            count_samples_once(loader)
        return loader

    # Assigning to a method is an error to mypy.
    setattr(connector, "_prepare_dataloader", prepare)  # noqa: B010
