"""N real servers, one process each: Lightning's DDP with a reducer as its communication hook."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _get_default_store
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.base import ERROR_EVERY, Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.shipped import dark_inputs, default_reducer
from optinc.strategies.agreement import agree, any_server
from optinc.strategies.bucket_exchange import BucketExchange, exchange_groups
from optinc.strategies.checkpoints import (
    CHECKPOINT_KEY,
    AtomicCheckpointIO,
    last_checkpoint,
    reducer_state,
    restore_reducer,
    to_cpu,
)
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.launcher import ServerLauncher
from optinc.strategies.lightning_evaluations import share_evaluations
from optinc.strategies.lightning_internals import (
    HookedDDPStrategy,
    replace_sigterm_handler,
    set_stopping,
)
from optinc.strategies.lightning_package import CheckpointIO, pl, register
from optinc.strategies.lost_servers import Attendance
from optinc.strategies.step_guard import StepGuard
from optinc.strategies.trainable import (
    is_current,
    left_from_before,
    listed,
    released_within_step,
)
from optinc.strategies.unsupported import check_trainable, claim

START_SECONDS = 120.0
"""Least time in which the processes can meet, since starting and reading data takes time."""


class OptINCDDPStrategy(HookedDDPStrategy):
    """Averages the gradients of all processes by a reducer instead of an all-reduce.

    Everything else is Lightning's DDP: launching (its own, torchrun, SLURM), gloo on CPU and NCCL
    on CUDA, samplers, precision, accumulation, ``find_unused_parameters``,
    ``gradient_as_bucket_view`` and the other arguments of
    :class:`~torch.nn.parallel.DistributedDataParallel`. The weights are equal on all servers after
    every step, and equal to the weights of ``VirtualServersStrategy`` on the same shards.

    Every backward pass outside ``no_sync`` is one reduction, also with manual optimisation and
    several optimisers. As with DDP, a pass that leaves trainable parameters without gradient, such
    as those of a GAN's other network, needs ``find_unused_parameters``; without it, it is an error
    on all servers before any weight changes. Parameters may become trainable or frozen, come or go,
    between two steps. In evaluations every sample counts once, and values that are logged for
    batches are those of all servers, with or without ``sync_dist``.

    Registered as ``optinc_ddp`` and ``optinc_ddp_find_unused_parameters_true`` when this module is
    imported.

    Args:
        reducer: Averages the gradients; it is connected to one server a process. None takes the
            shipped 8-bit ONN with the smallest sufficient fan-in.
        timeout_seconds: Seconds without an answer of a server after which the training ends with an
            error.
        most_skipped_steps: Consecutive steps that the policy ``skip_step`` may skip.
        error_every: Reductions from one measurement of the quantisation error to the next, for
            which servers send a sample of their gradients as floats; 0 measures none.
        process_group_backend: ``gloo`` or ``nccl``; None chooses by device.
        checkpoint_io: How checkpoints are written; None replaces files atomically.
        **kwargs: Of :class:`~pytorch_lightning.strategies.DDPStrategy`.

    Raises:
        ConfigurationError: If a value is illegal.

    Example:
        With ``trainer.fit(module, loader)``, which starts the second process:

        >>> import pytorch_lightning as pl
        >>> from optinc import OptINCDDPStrategy, OptINCReducer
        >>> strategy = OptINCDDPStrategy(OptINCReducer.from_zoo(bits=8, servers=2))
        >>> trainer = pl.Trainer(strategy=strategy, accelerator="cpu", devices=2, logger=False)
        >>> trainer.world_size
        2
    """

    strategy_name = "optinc_ddp"

    def __init__(
        self,
        reducer: Reducer | None = None,
        *,
        timeout_seconds: float = 120.0,
        most_skipped_steps: int = 10,
        error_every: int = ERROR_EVERY,
        process_group_backend: Literal["gloo", "nccl"] | None = None,
        checkpoint_io: CheckpointIO | None = None,
        **kwargs: Any,
    ) -> None:
        if timeout_seconds <= 0:
            raise ConfigurationError(
                f"strategy.timeout_seconds must be positive, got {timeout_seconds}"
            )
        if error_every < 0:
            raise ConfigurationError(
                f"strategy.error_every must be 0 (measure none) or more, got {error_every}"
            )
        for name in ("ddp_comm_hook", "ddp_comm_state", "ddp_comm_wrapper"):
            if kwargs.get(name) is not None:
                raise ConfigurationError(
                    f"strategy.{name} cannot be set: the reducer is the communication hook"
                )
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=max(timeout_seconds, START_SECONDS)),
            checkpoint_io=AtomicCheckpointIO() if checkpoint_io is None else checkpoint_io,
            **kwargs,
        )
        self._reducer = reducer
        self.timeout_seconds = timeout_seconds
        self.error_every = error_every
        self._guard = StepGuard(most_skipped_steps)
        self._exchange: BucketExchange | None = None
        self._attendance: Attendance | None = None
        self._groups: dict[str, ServerGroup] | None = None
        self._stopping = False
        # The parameters of the gradients that wait for a later batch, None where none do.
        self._accumulated: FlatParameters | None = None
        self._waiting = False

    @property
    def reducer(self) -> Reducer:
        """Reducer, connected to the servers of this run."""
        assert self._reducer is not None, "the reducer is chosen when the processes have met"
        return self._reducer

    def make_launcher(self) -> ServerLauncher:
        """Return a launcher that gives the servers time to say why they end."""
        assert self.cluster_environment is not None
        return ServerLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def communication_hook(self) -> Callable[..., Future[Tensor]]:
        """Return the hook that reduces the gradients of all servers."""
        assert self._exchange is not None
        return self._exchange.hook

    def setup_environment(self) -> None:
        """Let the processes meet, and connect the reducer to them.

        Raises:
            ConfigurationError: If the reducer cannot average this number of servers.
        """
        super().setup_environment()
        ServerGroup.world().set_timeout(timedelta(seconds=self.timeout_seconds))
        # gloo's threads must end before the interpreter does, or the process may abort.
        atexit.register(_leave)
        if self._reducer is None:
            self._reducer = default_reducer(self.world_size)
        self.reducer.connect(self.world_size)
        self.reducer.error_every = self.error_every
        if isinstance(self.reducer, OptINCReducer) and (warning := dark_inputs(self.reducer)):
            rank_zero_warn(warning)

    def setup(self, trainer: pl.Trainer) -> None:
        """Check that the module can be trained by real servers, then set up DDP.

        Raises:
            ConfigurationError: If module, precision or devices do not allow it, or the servers
                disagree.
        """
        if self.static_graph and not self._module().automatic_optimization:
            raise ConfigurationError(
                "strategy.static_graph=true needs automatic optimisation, but "
                f"{type(self._module()).__name__}.automatic_optimization is False"
            )
        if self.synchronises_batchnorm and self.root_device.type == "cpu":
            raise ConfigurationError(
                "trainer.sync_batchnorm=true needs CUDA: torch's SyncBatchNorm has no CPU form"
            )
        scaler = getattr(self.precision_plugin, "scaler", None)
        check_trainable(self._module(), self.reducer, scaler=scaler)
        if trainer.state.fn == "fit":
            claim(self.reducer, self._module())
        self._exchange = self._accumulated = None
        replace_sigterm_handler(trainer, self._note_stopping)
        share_evaluations(trainer, self._gather)
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Compare the servers, wrap the module, and register the reducer as its hook.

        Raises:
            ConfigurationError: If the servers disagree.
        """
        group = ServerGroup.world()
        self._layout = FlatParameters(self._module(), alignment=self.reducer.alignment)
        agree(self.reducer, self._layout, group)
        self.reducer.to(self.root_device)
        if self._exchange is not None and self._exchange.calls:
            self.reducer.forget_parameters()
        shapes = [parameter.shape for parameter in self._layout.parameters]
        self.reducer.lay_out(shapes, self._layout.names)
        self._attendance = Attendance(_get_default_store(), rank=group.rank, size=group.size)
        self.barrier()
        self._exchange = BucketExchange(
            self.reducer,
            self._layout,
            **self._exchange_groups(group),
            attendance=self._attendance,
            device=self.root_device,
        )
        super().configure_ddp()

    def _exchange_groups(self, group: ServerGroup) -> dict[str, ServerGroup]:
        """Return the groups of the exchange, kept where parameters come or go."""
        if self._groups is None:
            self._groups = exchange_groups(group, self.root_device)
            for each in self._groups.values():
                each.set_timeout(timedelta(seconds=self.timeout_seconds))
        return self._groups

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run the training step, in which DDP synchronises buffers.

        Where other parameters are trainable than before (fine-tuning, LoRA), all servers are laid
        out again first. Those that the step itself freezes and releases count as unused.

        Raises:
            ConfigurationError: On all servers, if their trainable parameters differ, or changed
                while gradients were being accumulated.
        """
        with self._watch():
            self._follow_trainable_parameters()
            return super().training_step(*args, **kwargs)

    def _follow_trainable_parameters(self) -> None:
        assert isinstance(self.model, DistributedDataParallel)
        module = self._module()
        if not self.model.require_backward_grad_sync:
            # The servers compare before the last of these batches.
            self._accumulated = self._accumulated or FlatParameters(module)
            return
        accumulated, self._accumulated = self._accumulated, None
        changed = not is_current(self._layout, module) or (
            accumulated is not None and not is_current(accumulated, module)
        )
        if not any_server(ServerGroup.world(), changed, self.root_device):
            return
        self.unwrap()
        self.configure_ddp()
        if accumulated is not None and (names := self._layout.differences(accumulated)):
            # What was frozen would keep a gradient that no server has averaged.
            raise ConfigurationError(
                f"requires_grad of {listed(names)} changed while gradients were being accumulated; "
                "strategy=ddp follows changes between optimiser steps"
            )

    def backward(
        self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Compute this server's gradient; DDP's hook reduces it if an optimiser step follows.

        Raises:
            ConfigurationError: On all servers, if a parameter of one of them got no gradient, one
                that was frozen when the step began got one, or fed-back errors would be lost with a
                gradient of an earlier pass; names server and parameter.
            NonFiniteGradientError: On all servers, if one server's gradient holds NaN or infinity
                and the policy is ``raise``; names server and parameter.
            ServerLostError: If a server died or did not answer within ``timeout_seconds``.
        """
        assert isinstance(self.model, DistributedDataParallel)
        assert self._exchange is not None
        exchange, module = self._exchange, self._module()
        synchronise = self.model.require_backward_grad_sync
        self.pre_backward(closure_loss)
        closure_loss = self.precision_plugin.pre_backward(closure_loss, module)
        with self._watch():
            if synchronise:
                exchange.stopping = self._stopping
                problem = released_within_step(self._layout, module, closure_loss)
                lossy = self.reducer.feeds_back and self.model.find_unused_parameters
                if problem is None and lossy and not self._waiting:
                    problem = left_from_before(self._layout, closure_loss)
                exchange.begin(problem)
            self.precision_plugin.backward(closure_loss, module, optimizer, *args, **kwargs)
            if synchronise:
                self._finish_exchange(exchange, closure_loss)
            else:
                self._accumulated = self._accumulated or self._layout
            self._waiting = not synchronise
        closure_loss = self.precision_plugin.post_backward(closure_loss, module)
        self.post_backward(closure_loss)
        return closure_loss

    def _finish_exchange(self, exchange: BucketExchange, loss: Tensor) -> None:
        skipped = False
        try:
            exchange.finish(loss)
        except SkipStep:
            # Without gradients the optimiser changes nothing, not even its own state. Those that
            # another optimiser accumulates, whose parameters are toggled off, stay.
            skipped = True
            for parameter in self._layout.parameters:
                if parameter.requires_grad:
                    parameter.grad = None
        except NonFiniteGradientError as error:
            raise error.with_parameter(self._layout.names, self._layout.sizes) from None
        self._guard.note(skipped=skipped, last_checkpoint=last_checkpoint(self._module()))

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: pl.LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Step the optimiser, and stop all servers together if one received SIGTERM."""
        output = super().optimizer_step(optimizer, closure, model, **kwargs)
        if self._exchange is not None and self._exchange.all_stop:
            set_stopping(self._module().trainer, stopping=True)
        return output

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Store the reducer's accounting and the state of all servers with the checkpoint."""
        group = ServerGroup.world()
        mine = {name: value[0] for name, value in self.reducer.server_state().items()}
        everyone = to_cpu({name: group.all_gather(value) for name, value in mine.items()})
        checkpoint[CHECKPOINT_KEY] = reducer_state(self.reducer, everyone)
        super().save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Restore the reducer from a checkpoint that holds one, if a training goes on from it."""
        checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        if self._module().trainer.state.fn == "fit":
            mine = slice(self.global_rank, self.global_rank + 1)
            restore_reducer(self.reducer, checkpoint, servers=mine)
        return checkpoint

    def on_exception(self, exception: BaseException) -> None:
        """End the processes that this one has started, which may be waiting for it."""
        super().on_exception(exception)
        if isinstance(self.launcher, ServerLauncher):
            self.launcher.stop(grace_seconds=10.0)

    def reduce(
        self, tensor: Tensor | Any, group: Any | None = None, reduce_op: Any = "mean"
    ) -> Tensor | Any:
        """Combine a value of all servers; the mean of integers is not cut off, as Lightning's is.

        Args:
            tensor: The value; floating-point tensors are overwritten, and others returned as are.
            group: Process group of torch; None takes all servers.
            reduce_op: ``mean``, ``sum``, or an operation of :mod:`torch.distributed`.

        Returns:
            The combined value.
        """
        with self._watch():
            whole = isinstance(tensor, Tensor) and not tensor.is_floating_point()
            if whole and reduce_op in ("mean", "avg", dist.ReduceOp.AVG):
                total = super().reduce(tensor.clone(), group, "sum")
                return total / dist.get_world_size(group)
            return super().reduce(tensor, group, reduce_op)

    def _gather(self, value: Any) -> list[Any]:
        with self._watch():
            return ServerGroup.world().gather_objects(value)

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all servers.

        Raises:
            ServerLostError: If a server died or did not answer within ``timeout_seconds``.
        """
        with self._watch():
            super().barrier(*args, **kwargs)

    def _note_stopping(self, signum: int, frame: Any) -> None:
        self._stopping = True

    @contextmanager
    def _watch(self) -> Iterator[None]:
        if self._attendance is None:
            yield
            return
        with self._attendance.watch(self.timeout_seconds):
            yield

    def _module(self) -> pl.LightningModule:
        module = self.lightning_module
        assert module is not None
        return module


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


register(OptINCDDPStrategy)
