"""Every private name of Lightning that OptINC uses, behind functions and classes of its own.

No other module touches an underscore name of Lightning's packages, but
:mod:`optinc.strategies.lightning_evaluations`.
``.ci/run`` tests this file with the oldest Lightning that ``pyproject.toml`` allows too.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from optinc.errors import OptINCError
from optinc.strategies.lightning_package import (
    PACKAGE,
    DDPStrategy,
    ModelCheckpoint,
    RichProgressBar,
    pl,
)

if TYPE_CHECKING or PACKAGE == "pytorch_lightning":
    from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
    from pytorch_lightning.__version__ import version
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
else:
    from lightning.__version__ import version
    from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

TRAINER_NAMES = (
    "received_sigterm",
    "_signal_connector.received_sigterm",
    "_signal_connector._sigterm_notifier_fn",
    "_accelerator_connector._layer_sync",
    "fit_loop._should_accumulate",
    "fit_loop.epoch_loop._num_ready_batches_reached",
    "fit_loop.epoch_loop.batch_progress.reset_on_run",
    "fit_loop.epoch_loop.val_loop.batch_progress.reset_on_run",
    "fit_loop.epoch_loop.val_loop.batch_progress.increment_ready",
    "fit_loop.epoch_loop.val_loop.batch_progress.increment_started",
    *(
        f"fit_loop.epoch_progress.{tracker}.{count}"
        for tracker in ("total", "current")
        for count in ("ready", "processed", "completed")
    ),
    "validate_loop._results",
    "test_loop._results",
    "fit_loop.epoch_loop.val_loop._results",
    "_data_connector._prepare_dataloader",
)
"""What the functions here use of a trainer."""

CHECKPOINT_NAMES = (
    "_should_save_on_train_epoch_end",
    "_should_skip_saving_checkpoint",
    "_monitor_candidates",
    "_save_last_checkpoint",
)
"""What :class:`ValidationCheckpoint` uses of its base class."""

LAUNCHER_NAMES = ("_call_children_scripts", "launch")
"""What :class:`ProcessLauncher` uses of its base class."""

DDP_NAMES = ("_configure_launcher", "_register_ddp_hooks")
"""What :class:`HookedDDPStrategy` overrides; Lightning calls both."""


def require_names(owner: object, names: tuple[str, ...]) -> None:
    """Refuse a Lightning that lacks a name, before the training starts.

    Otherwise an override that Lightning never calls, or an attribute it never reads, would be
    ignored in silence, and a missing method noticed only when SIGTERM comes.

    Raises:
        OptINCError: If ``owner`` lacks one of ``names`` (dotted paths); names it and the remedy.
    """
    missing = [name for name in names if not _has(owner, name)]
    if missing:
        owner_name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise _unsupported(f"has no {owner_name}.{missing[0]}")


def replace_sigterm_handler(trainer: pl.Trainer, handler: Callable[[int, Any], None]) -> None:
    """Call ``handler`` on SIGTERM where Lightning would call its own handler.

    Private because a handler that is installed with :mod:`signal` is called in addition to
    Lightning's, which calls a collective whatever the other ranks do.
    """
    require_names(trainer, TRAINER_NAMES)
    # Assigning to a method is an error to mypy.
    setattr(trainer._signal_connector, "_sigterm_notifier_fn", handler)  # noqa: B010


def set_stopping(trainer: pl.Trainer, *, stopping: bool) -> None:
    """Let Lightning stop after this batch as on SIGTERM, or go on although SIGTERM came.

    Private because ``trainer.received_sigterm`` cannot be assigned, and ``trainer.should_stop``
    ends a training as if it were complete.
    """
    trainer._signal_connector.received_sigterm = stopping
    if trainer.received_sigterm != stopping:
        raise _unsupported("does not read Trainer._signal_connector.received_sigterm")


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Tell whether this batch's gradients wait for those of a later batch.

    Private because ``trainer.accumulate_grad_batches`` does not tell which batch of an epoch is
    the last, after which the optimiser steps in any case.
    """
    return bool(trainer.fit_loop._should_accumulate())


def asks_for_synchronised_batchnorm(trainer: pl.Trainer) -> bool:
    """Tell whether ``Trainer(sync_batchnorm=True)`` was asked for, with any strategy.

    Private because strategies for one device ignore it in silence.
    """
    return trainer._accelerator_connector._layer_sync is not None


def called_by_logging() -> bool:
    """Tell whether the caller's caller is ``self.log``, which reduces by ``Strategy.reduce``.

    Private because a strategy is not told who asks for a reduction.
    """
    module = str(sys._getframe(2).f_globals.get("__name__", ""))
    return module.endswith(".logger_connector.result")


def epoch_is_over(trainer: pl.Trainer) -> bool:
    """Tell whether the batch that was last begun is the last of its epoch.

    Private because ``trainer.num_training_batches`` is infinite for a loader without a length.
    """
    return bool(trainer.fit_loop.epoch_loop._num_ready_batches_reached())


def restart_validation(trainer: pl.Trainer) -> None:
    """Let the training resume with the interrupted validation, from its first batch.

    Lightning would leave it out. What it takes for a restart in the middle of a validation is a
    batch that was started and not processed. Private because no argument repeats a validation.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset_on_run()
    progress.increment_ready()
    progress.increment_started()


def begin_next_epoch(trainer: pl.Trainer) -> None:
    """Let the training resume with the first batch of the next epoch where one has just ended.

    Where steps limit the training, and no validation took place at the end of the epoch, Lightning
    would count its batches as batches of the next one. Private because no argument resets them.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    if trainer.max_steps != -1 and epochs.completed == epochs.ready and epoch_is_over(trainer):
        trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()


@contextmanager
def ready_for_next_batch(trainer: pl.Trainer) -> Iterator[None]:
    """Let a checkpoint of the end continue with the batch after the last one.

    Where steps limit the training, Lightning would leave out the rest of an epoch that they cut
    short, and would count the batches of a whole epoch as batches of the next one. Private because
    a checkpoint stores Lightning's counts, which only the loops can change.
    """
    fit_loop = trainer.fit_loop
    epochs, batches = fit_loop.epoch_progress, fit_loop.epoch_loop.batch_progress
    before = epochs.state_dict(), batches.state_dict()
    if not epoch_is_over(trainer):
        counts = epochs.state_dict()
        for tracker in ("total", "current"):
            for count in ("processed", "completed"):
                counts[tracker][count] -= 1
        epochs.load_state_dict(counts)
    elif trainer.max_steps != -1:
        batches.reset_on_run()
    try:
        yield
    finally:
        epochs.load_state_dict(before[0])
        batches.load_state_dict(before[1])


class ValidationCheckpoint(ModelCheckpoint):
    """Lightning's checkpoints, saved at validations wherever the trainer validates.

    Private because ``save_on_train_epoch_end`` has to be chosen before it is known whether there
    are validations, and ``save_last`` cannot be asked for at a time of our own.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that this Lightning has what is used of it.

        Raises:
            OptINCError: If it has not.
        """
        require_names(trainer, TRAINER_NAMES)
        require_names(ModelCheckpoint, CHECKPOINT_NAMES)
        require_names(self, ("_save_on_train_epoch_end",))
        super().setup(trainer, pl_module, stage)

    def saves_at_validation(self, trainer: pl.Trainer) -> bool:
        """Tell whether checkpoints are saved after validations, not after training epochs."""
        return not self._should_save_on_train_epoch_end(trainer)

    def save_last_now(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt`` unless this step has been saved.

        A link (``save_last="link"``) is left alone: it leads to the last regular checkpoint,
        whichever step that is of.
        """
        if self.save_last != "link" and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def best_if_now(self, trainer: pl.Trainer) -> Path | None:
        """Return where the best checkpoint belongs if the weights of now are it, None if not."""
        values = self._monitor_candidates(trainer)
        current = values.get(self.monitor) if self.monitor is not None else None
        if self.dirpath is None or current is None or self.save_top_k == 0:
            return None
        if current.isnan() and self.best_k_models:
            return None
        if not self.check_monitor_top_k(trainer, current):
            return None
        return Path(self.format_checkpoint_name(values))

    def _should_save_on_train_epoch_end(self, trainer: pl.Trainer) -> bool:
        # Where steps limit the training, Lightning does not continue exactly from the end of an
        # epoch, and takes an epoch that they cut short for a whole one.
        if self._save_on_train_epoch_end is None and trainer.enable_validation:
            return False
        return super()._should_save_on_train_epoch_end(trainer)


class EpochProgressBar(RichProgressBar):
    """Lightning's progress bar in Rich's signs, with a text of our own for each epoch."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that this Lightning has what is used of it.

        Raises:
            OptINCError: If it has not.
        """
        require_names(RichProgressBar, ("_get_train_description",))
        super().setup(trainer, pl_module, stage)

    @abstractmethod
    def describe_epoch(self, current_epoch: int) -> str:
        """Return the text beside the bar of an epoch, whose number begins at 0."""

    def _get_train_description(self, current_epoch: int) -> str:
        return self.describe_epoch(current_epoch)


class ProcessLauncher(_SubprocessScriptLauncher):
    """Lightning's start of one process a device, with an observer of our own.

    Private because Lightning offers no other launcher for scripts, and its own kills all processes
    within five seconds of a failure.

    Attributes:
        procs: The processes started here; this one is not among them.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: pl.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the other servers of this machine, then call ``function``."""
        require_names(_SubprocessScriptLauncher, LAUNCHER_NAMES)
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            self.observe()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    @abstractmethod
    def observe(self) -> None:
        """Begin to watch the processes that were started, and return."""


class HookedDDPStrategy(DDPStrategy):
    """Lightning's DDP with the launcher and the communication hook of a subclass.

    Private because ``DDPStrategy(ddp_comm_hook=...)`` registers hooks on CUDA only and says nothing
    elsewhere, and because no argument chooses a launcher.
    """

    @abstractmethod
    def make_launcher(self) -> ProcessLauncher:
        """Return the launcher of a strategy that starts its processes as scripts."""

    @abstractmethod
    def communication_hook(self) -> Callable[..., Future[Tensor]]:
        """Return the hook to which DDP gives its buckets of gradients."""

    @property
    def synchronises_batchnorm(self) -> bool:
        """Whether ``Trainer(sync_batchnorm=True)`` was asked for, which no public name tells."""
        return self._layer_sync is not None

    @property
    def static_graph(self) -> bool:
        """Whether DDP may take every backward pass to be like the first."""
        return bool(self._ddp_kwargs.get("static_graph", False))

    def unwrap(self) -> None:
        """Take the module out of DDP, so that :meth:`configure_ddp` can wrap it anew.

        Private because only Lightning's own ``setup`` wraps, and with arguments that it keeps. The
        servers are equal by now, and each may have buffers of its own: nothing is sent again.
        """
        self.model = self.lightning_module
        self._ddp_kwargs = {**self._ddp_kwargs, "init_sync": False}

    def setup(self, trainer: pl.Trainer) -> None:
        """Check that this Lightning has what is used of it, then set up DDP.

        Raises:
            OptINCError: If it has not.
        """
        require_names(trainer, TRAINER_NAMES)
        require_names(DDPStrategy, DDP_NAMES)
        if self._start_method == "popen" and not isinstance(self.launcher, ProcessLauncher):
            raise _unsupported("does not call Strategy._configure_launcher for its launcher")
        super().setup(trainer)

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if self._start_method == "popen":
            self._launcher = self.make_launcher()

    def _register_ddp_hooks(self) -> None:
        assert isinstance(self.model, DistributedDataParallel)
        self.model.register_comm_hook(None, self.communication_hook())


def _has(owner: object, path: str) -> bool:
    try:
        attrgetter(path)(owner)
    except AttributeError:
        return False
    return True


def _unsupported(lack: str) -> OptINCError:
    name = "pytorch-lightning" if PACKAGE == "pytorch_lightning" else "lightning"
    return OptINCError(
        f"{name} {version} {lack}, which optinc needs; install a version it was "
        f"tested with: pip install '{name}>=2.6,<2.7'"
    )
