"""N virtual servers on one device, with the results of N processes under DDP bit for bit."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.base import Reducer
from optinc.strategies.checkpoints import (
    CHECKPOINT_KEY,
    AtomicCheckpointIO,
    last_checkpoint,
    reducer_state,
    restore_reducer,
    to_cpu,
)
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.lightning_internals import (
    asks_for_synchronised_batchnorm,
    called_by_logging,
    is_accumulating,
)
from optinc.strategies.lightning_package import (
    CUDAAccelerator,
    MPSAccelerator,
    SingleDeviceStrategy,
    pl,
    reset_seed,
)
from optinc.strategies.server_gradients import (
    Groups,
    ServerGradients,
    groups_are_possible,
    server_gradients,
)
from optinc.strategies.server_states import ServerStates, TrainedWeights
from optinc.strategies.sharding import check_shards, loader_rows, split_batch
from optinc.strategies.single_rows import SingleRows, explained
from optinc.strategies.step_guard import StepGuard
from optinc.strategies.unsupported import check_trainable, claim
from optinc.strategies.virtual_ranks import VirtualRanks, refuse_synchronised_batchnorm


class VirtualServersStrategy(SingleDeviceStrategy):
    """Splits every batch over N servers, and lets a reducer average their gradients.

    Server k computes on rows k, k+N, k+2N, ... of the batch, as rank k under DDP would; all servers
    start from equal weights, buffers and random state. Gradient hooks, clipping and the optimiser
    see the reduced gradient. Over accumulated micro-batches each server sums its own gradients;
    they are reduced once, before the optimiser step. Server 0 computes last, so that its buffers,
    random state and values logged per step remain, which under DDP are rank 0's.

    Works with any LightningModule that uses automatic optimisation and one optimiser.

    Args:
        reducer: Averages the gradients [N, P] of its N servers.
        device: Device to train on; ``auto`` follows the trainer's accelerator.
        most_skipped_steps: Consecutive steps that the policy ``skip_step`` may skip.

    Example:
        >>> import pytorch_lightning as pl
        >>> import torch
        >>> from optinc import OptINCReducer, VirtualServersStrategy
        >>> class Line(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(1, 1)
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         return (self.layer(batch) - 2 * batch).square().mean()
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> reducer = OptINCReducer.from_zoo(bits=8, servers=4)
        >>> trainer = pl.Trainer(
        ...     strategy=VirtualServersStrategy(reducer),
        ...     accelerator="cpu",
        ...     max_epochs=1,
        ...     logger=False,
        ...     enable_checkpointing=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(Line(), torch.utils.data.DataLoader(torch.randn(64, 1), batch_size=8))
        >>> reducer.accounting.reductions, reducer.accounting.onn_error_rate
        (8, 0.0)
    """

    strategy_name = "virtual_servers"

    def __init__(
        self,
        reducer: Reducer,
        *,
        device: torch.device | str = "auto",
        most_skipped_steps: int = 10,
    ) -> None:
        super().__init__(
            device="cpu" if device == "auto" else device, checkpoint_io=AtomicCheckpointIO()
        )
        self.reducer = reducer
        self._ranks = VirtualRanks(reducer.servers)
        self._follow_accelerator = device == "auto"
        self._guard = StepGuard(most_skipped_steps)
        self._losses: list[Tensor] = []
        self._layout: FlatParameters | None = None
        self._gradients: ServerGradients | None = None

    @property
    def servers(self) -> int:
        """Number of virtual servers N."""
        return self.reducer.servers

    @property
    def root_device(self) -> torch.device:
        """Device of the model."""
        if self._follow_accelerator and isinstance(self.accelerator, CUDAAccelerator):
            return torch.device("cuda", torch.cuda.current_device())
        if self._follow_accelerator and isinstance(self.accelerator, MPSAccelerator):
            return torch.device("mps", 0)
        return super().root_device

    @property
    def is_global_zero(self) -> bool:
        """Whether this is server 0, or no server computes."""
        return self.global_rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether one of several servers computes; Lightning asks when a value is logged."""
        return self._ranks.rank is not None

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        """Return the tensor of the only process.

        Raises:
            ConfigurationError: In ``training_step``, where N servers have a tensor each.
        """
        self._ranks.refuse("self.all_gather")
        return super().all_gather(tensor, group=group, sync_grads=sync_grads)

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Return a value logged with ``sync_dist=True``, reduced over all servers on server 0.

        Raises:
            ConfigurationError: If ``training_step`` reduces by itself.
        """
        if self._ranks.rank is None:
            return super().reduce(tensor)
        if not (called_by_logging() and isinstance(tensor, Tensor)):
            self._ranks.refuse("strategy.reduce")
        return self._ranks.reduce_logged(tensor, reduce_op)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002
        """Return the decision of the only process.

        Raises:
            ConfigurationError: In ``training_step``, where N servers decide.
        """
        self._ranks.refuse("strategy.reduce_boolean_decision")
        return super().reduce_boolean_decision(decision, all)

    def setup_environment(self) -> None:
        """Restart the random state from the global seed, as DDP does when its processes meet."""
        super().setup_environment()
        reset_seed()

    def setup(self, trainer: pl.Trainer) -> None:
        """Check that the module can be trained by virtual servers.

        Raises:
            ConfigurationError: If the module uses manual optimisation or several optimisers.
        """
        module = self._module()
        if not module.automatic_optimization:
            raise ConfigurationError(
                f"strategy=virtual_servers needs automatic optimisation, but "
                f"{type(module).__name__}.automatic_optimization is False; use strategy=ddp for "
                "manual optimisation"
            )
        scaler = getattr(self.precision_plugin, "scaler", None)
        check_trainable(module, self.reducer, scaler=scaler)
        if trainer.state.fn == "fit":
            claim(self.reducer, module)
        self._ranks = VirtualRanks(self.servers)
        if self.servers > 1:
            asked = asks_for_synchronised_batchnorm(trainer)
            refuse_synchronised_batchnorm(module, asked=asked)
        super().setup(trainer)
        if len(self.optimizers) > 1:
            raise ConfigurationError(
                f"strategy=virtual_servers needs one optimiser, but {type(module).__name__} "
                f"configures {len(self.optimizers)}"
            )
        self.reducer.to(self.root_device)
        self._states = ServerStates(module, self.servers, self.root_device)
        self._broadcast_buffers = self._first_step = True
        # The first backward pass lays out the gradients: hooks may yet freeze parameters.
        self._layout = None
        self._gradients = None

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> Tensor | dict[str, Any]:
        """Run the training step of every server on its shard of the batch.

        Returns:
            The output of server 0, with the mean of the losses of all servers as loss.

        Raises:
            ConfigurationError: If the batch cannot be split, or a server returns no scalar loss.
        """
        shards = self._split(batch)
        # DDP sends rank 0's buffers before the first forward pass after a synchronised one.
        self._states.begin(broadcast_buffers=self._broadcast_buffers)
        self._broadcast_buffers = not is_accumulating(self._module().trainer)
        weights = TrainedWeights(self._module(), thorough=self._first_step)
        outputs: dict[int, Any] = {}
        # Server 0 is the last, so that values logged per step are its own.
        with explained(self.servers), self._first_forward():
            for server in reversed(range(self.servers)):
                with self._server(server):
                    outputs[server] = super().training_step(shards[server], *args, **kwargs)
        weights.check_unchanged()

        self._losses = [_loss_of(outputs[server]) for server in range(self.servers)]
        # Value of the mean, with a gradient of exactly 1 for each server's loss.
        mean = torch.stack([loss.detach() for loss in self._losses]).mean()
        loss = mean + sum(loss - loss.detach() for loss in self._losses)
        return {**outputs[0], "loss": loss} if isinstance(outputs[0], Mapping) else loss

    def backward(
        self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Compute every server's gradient, and reduce them if an optimiser step follows.

        Raises:
            NonFiniteGradientError: If a gradient holds NaN or infinity and the reducer's policy is
                ``raise``; names server and parameter.
        """
        self.pre_backward(closure_loss)
        module = self._module()
        layout = self._follow_requires_grad()
        closure_loss = self.precision_plugin.pre_backward(closure_loss, module)
        # Accumulation and loss scaling have multiplied the loss; the factor applies to each server.
        factors = torch.autograd.grad(closure_loss, self._losses)
        gradients = self._begin_gradients(layout)
        self._states.begin()
        for server in reversed(range(self.servers)):
            for parameter in layout.parameters:
                parameter.grad = None
            with self._server(server):  # activations may be computed again
                loss = self._losses[server] * factors[server]
                self.precision_plugin.backward(loss, module, optimizer, *args, **kwargs)
            gradients.take(server)
        self._losses = []
        if not is_accumulating(module.trainer):
            self._reduce(gradients)
        closure_loss = self.precision_plugin.post_backward(closure_loss, module)
        self.post_backward(closure_loss)
        return closure_loss

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Store the reducer's accounting and the state of its servers with the checkpoint."""
        servers = to_cpu(self.reducer.server_state())
        checkpoint[CHECKPOINT_KEY] = reducer_state(self.reducer, servers)
        super().save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Restore the reducer from a checkpoint that holds one, if a training goes on from it."""
        checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        if self._module().trainer.state.fn == "fit":
            restore_reducer(self.reducer, checkpoint)
        return checkpoint

    @contextmanager
    def _first_forward(self) -> Iterator[None]:
        """Learn in the first step whether the last batch of the epoch will do."""
        if not self._first_step:
            yield
            return
        self._first_step = False
        single_rows = SingleRows(self._module())
        with single_rows.look():
            yield
        trainer = self._module().trainer
        loader: Any = trainer.train_dataloader
        rows, _ = loader_rows(loader, last_batch=True)
        # With a limit on batches or steps the last one may never come.
        if len(rows) > 1 and trainer.num_training_batches == len(loader) and trainer.max_steps < 0:
            single_rows.check(rows[-1], self.servers)

    def _split(self, batch: Any) -> list[Any]:
        """Split a batch by the user's ``split_batch`` if there is one, else by sample."""
        trainer = self._module().trainer
        for owner in (self._module(), trainer.datamodule):  # type: ignore[attr-defined]
            split = getattr(owner, "split_batch", None)
            if callable(split):
                shards = split(batch, self.servers)
                return check_shards(shards, self.servers, type(owner).__name__)
        rows, stacked = loader_rows(trainer.train_dataloader, last_batch=trainer.is_last_batch)
        return split_batch(batch, self.servers, rows=rows, stacked=stacked)

    def _module(self) -> pl.LightningModule:
        module = self.lightning_module
        assert module is not None
        return module

    @contextmanager
    def _server(self, server: int) -> Iterator[None]:
        """Compute as one server, with its rank and state."""
        self.global_rank = self.local_rank = server
        self.world_size = self.servers
        try:
            with self._ranks.server(server), self._states.server(server):
                yield
        finally:
            self.global_rank = self.local_rank = 0
            self.world_size = 1

    def _follow_requires_grad(self) -> FlatParameters:
        """Return the layout of the parameters that are trained now, a new one if they changed.

        Raises:
            ConfigurationError: If they changed while gradients were being accumulated.
        """
        layout = FlatParameters(self._module(), alignment=self.reducer.alignment)
        if self._layout is not None:
            changed = layout.differences(self._layout)
            if not changed:
                return self._layout
            if self._accumulating:
                raise ConfigurationError(
                    f"requires_grad of parameter '{changed[0]}' changed while gradients were being "
                    "accumulated; strategy=virtual_servers follows changes between optimiser steps"
                )
            self.reducer.forget_parameters()
        self.reducer.lay_out([parameter.shape for parameter in layout.parameters], layout.names)
        self._layout, self._gradients = layout, None
        return layout

    @property
    def _accumulating(self) -> bool:
        """Whether gradients wait for a later micro-batch."""
        return self._gradients is not None and self._gradients.present is not None

    def _begin_gradients(self, layout: FlatParameters) -> ServerGradients:
        """Return memory for the gradients of all servers, kept while its form stays right."""
        gradients = self._gradients
        grouped = isinstance(gradients, Groups)
        if gradients is None or not (
            self._accumulating or grouped == groups_are_possible(layout, self.reducer)
        ):
            gradients = server_gradients(layout, self.reducer, device=self.root_device)
        self._gradients = gradients
        gradients.begin()
        return gradients

    def _reduce(self, gradients: ServerGradients) -> None:
        """Replace the gradients of all servers by their reduction."""
        layout, skipped = gradients.layout, False
        try:
            gradients.reduce(self.reducer)
        except SkipStep:
            # Without gradients the optimiser changes nothing, not even its own state.
            skipped = True
        except NonFiniteGradientError as error:
            raise error.with_parameter(layout.names, layout.sizes) from None
        self._guard.note(skipped=skipped, last_checkpoint=last_checkpoint(self._module()))


def _loss_of(output: Any) -> Tensor:
    """Return the loss in a training step's output."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ConfigurationError(
            "strategy=virtual_servers needs training_step to return a scalar loss (or a dict with "
            f"'loss') on every server, got {type(output).__name__}; a server cannot skip a step"
        )
    return loss
