"""Fine-tuning of all levels of a cascade together, as light sees them (Sec. III-C).

Levels that are perfect on their own data sets need not be so together: their receivers forgive
analog errors of up to half a step, but there is none between the levels, and a step of the last
input of level l is N^(l-1) times finer.
"""

# Shape suffixes: N servers, P samples, K ONN inputs, M symbols.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, IterableDataset

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_composed,
    propagate,
    random_codes,
)
from optinc.onn.approximation import project_layers
from optinc.onn.dataset import samples_of_index
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.training.losses import ONNLoss
from optinc.onn.training.one_switch import take_step
from optinc.onn.training.optimizers import OptimizerName, make_optimizers, one_cycle
from optinc.signal import outputs, pam4
from optinc.signal.tree import Tree

MOST_HARD = 1 << 17
"""Hard inputs of a cascade remembered from one evaluation to the next."""


class CascadeBatches(IterableDataset[Tensor]):
    """Codes of all servers, int32 [N, P]: random ones, worst cases of carries, and hard ones.

    Args:
        tree: The cascade.
        batch_size: Inputs P of a batch.
        batches: Batches of an epoch.
        seed: Seed of the draws.

    Attributes:
        hard: int32 tensor [N, hard inputs], of which a quarter of every batch is drawn.
        epoch: Makes the draws of every epoch new.
    """

    def __init__(self, tree: Tree, *, batch_size: int, batches: int, seed: int) -> None:
        self.tree = tree
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.hard = torch.empty(tree.connected, 0, dtype=torch.int32)
        self.epoch = 0
        self._chains = torch.cat(list(carry_chains(tree)), dim=1)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

        def draw(pool_NP: Tensor, count: int) -> Tensor:
            return pool_NP[:, torch.randint(pool_NP.shape[1], (count,), generator=generator)]

        quarter = self.batch_size // 4
        for _ in range(self.batches):
            parts = [draw(self._chains, quarter)]
            if self.hard.shape[1]:
                parts.append(draw(self.hard, quarter))
            size = (self.tree.connected, self.batch_size - quarter * len(parts))
            parts.append(
                torch.randint(2**self.tree.bits, size, generator=generator, dtype=torch.int32)
            )
            yield torch.cat(parts, dim=1)


class CascadeTraining(pl.LightningModule):
    """Trains the networks of all levels on what the receivers above the top get.

    To that loss come those of every level on its own inputs, so that the levels stay right by
    themselves. Approximated layers are projected as in
    :class:`~optinc.onn.training.one_switch.ONNTraining`. After every epoch each level is evaluated
    on all inputs, and the cascade on ``check_samples`` random ones and all worst cases of carries;
    training stops once none is wrong and the margin of the cascade is ``min_margin``. Else the best
    weights evaluated are kept.

    Args:
        tree: The cascade.
        networks: Of the levels, from the servers to the top.
        designs: Their scenarios, structures and approximated layers.
        loss: The objective at receivers.
        optimizer: See :func:`optinc.onn.training.optimizers.make_optimizers`.
        learning_rate: Peak of a one-cycle schedule.
        first_level: 1-based level from which on all are trained; those below stay as they are.
        batch_size: Inputs of a step.
        epoch_batches: Steps of an epoch.
        max_epochs: Length of the schedule.
        projection_interval: Steps between projections.
        check_samples: Random inputs of an evaluation between epochs.
        hard_margin: Cascade inputs with a smaller margin, in PAM4 amplitudes, are drawn more often.
        min_margin: Margin of the cascade to stop at, in PAM4 amplitudes.
        seed: Determines the inputs.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.

    Attributes:
        evaluations: Evaluation of each level by itself, after every epoch.
        composed: Evaluation of the cascade, likewise.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        networks: Sequence[OpticalNetwork],
        designs: Sequence[ONNDesign],
        loss: ONNLoss,
        optimizer: OptimizerName,
        learning_rate: float,
        first_level: int,
        batch_size: int,
        epoch_batches: int,
        max_epochs: int,
        projection_interval: int,
        check_samples: int,
        hard_margin: float,
        min_margin: float,
        seed: int,
    ) -> None:
        super().__init__()
        # Lightning steps one optimiser by itself; here are several.
        self.automatic_optimization = False
        if first_level not in range(1, tree.depth + 1):
            raise ConfigurationError(
                f"cascade_tuning.first_level must be 1 to {tree.depth}, got {first_level}"
            )
        for name, value in (
            ("batch_size", batch_size),
            ("epoch_batches", epoch_batches),
            ("max_epochs", max_epochs),
            ("projection_interval", projection_interval),
            ("check_samples", check_samples),
        ):
            if value < 1:
                raise ConfigurationError(f"cascade_tuning.{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ConfigurationError(
                f"cascade_tuning.learning_rate must be > 0, got {learning_rate}"
            )
        if not 0 <= min_margin < 0.5:
            raise ConfigurationError(
                f"cascade_tuning.min_margin must be at least 0 and below 0.5, got {min_margin}"
            )
        self.tree = tree
        self.networks = nn.ModuleList(networks)
        self.networks.train().requires_grad_(False)
        self.first = first_level - 1
        self.networks[self.first :].requires_grad_(True)
        self.optimizer = optimizer
        self._below = AnalogCascade([], tree)
        self.designs = list(designs)
        self.loss = loss
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.projection_interval = projection_interval
        self.check_samples = check_samples
        self.hard_margin = hard_margin
        self.min_margin = min_margin
        self.batches = CascadeBatches(tree, batch_size=batch_size, batches=epoch_batches, seed=seed)
        self.evaluations: list[Evaluation] = []
        self.composed: Evaluation | None = None
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of codes."""
        # A generator of its own: a new iterator would draw from the global one, and differ after
        # resuming.
        return DataLoader(self.batches, batch_size=None, generator=torch.Generator())

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Optimisers of all trained levels under a one-cycle learning rate."""
        optimizers = [
            optimizer
            for network in self._trained
            for optimizer in make_optimizers(
                network, self.optimizer, learning_rate=self.learning_rate
            )
        ]
        steps = self.max_epochs * self.batches.batches
        return optimizers, one_cycle(optimizers, learning_rate=self.learning_rate, steps=steps)

    @property
    def _trained(self) -> list[OpticalNetwork]:
        return [cast("OpticalNetwork", network) for network in self.networks[self.first :]]

    def on_train_start(self) -> None:
        """Look up what levels that stay as they are emit, where they can be tabulated."""
        self._below = AnalogCascade(list(self.networks[: self.first]), self.tree)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on the losses of the cascade and of every trained level by itself."""
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=batch.shape[1])
        take_step(self, loss)
        if (batch_idx + 1) % self.projection_interval == 0:
            self._project()

    def _loss(self, batch: Tensor) -> Tensor:
        code_P = outputs.ideal_average(batch, self.tree.whole)
        symbols_PM = pam4.encode(code_P, symbols=self.tree.symbols)
        scenarios = self.tree.levels[self.first :]
        (amplitudes_PM,) = propagate(self._trained, scenarios, self._below.signals(batch))
        loss = self.loss(amplitudes_PM, symbols_PM, epoch=self.current_epoch)
        for network, scenario in zip(self._trained, scenarios, strict=True):
            index = torch.randint(scenario.combinations, (batch.shape[1],), device=batch.device)
            samples = samples_of_index(index, scenario)
            amplitudes_PM = network(samples.averages_PK)
            loss = loss + self.loss(
                amplitudes_PM,
                samples.symbols_PM,
                epoch=self.current_epoch,
                steps_M=outputs.steps_of(scenario, like=amplitudes_PM),
            )
        return loss

    def on_train_epoch_end(self) -> None:
        """Project, evaluate, and stop if nothing is wrong."""
        self._project()
        self.batches.epoch += 1
        self.evaluate(samples=self.check_samples, seed=self.batches.epoch)
        assert self.composed is not None
        wrong = sum(level.wrong_inputs for level in self.evaluations) + self.composed.wrong_inputs
        rank = (-float(wrong), self.composed.smallest_margin)
        if self._best is None or rank > self._best[0]:
            weights = {name: value.clone() for name, value in self.networks.state_dict().items()}
            self._best = rank, weights
        self.log_dict(
            {
                "composed_wrong": float(self.composed.wrong_inputs),
                "composed_margin": self.composed.smallest_margin,
                **{
                    f"level{i}_wrong": float(level.wrong_inputs)
                    for i, level in enumerate(self.evaluations, start=1)
                },
            },
            prog_bar=True,
        )
        if not wrong and self.composed.smallest_margin >= self.min_margin:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Keep the best weights."""
        if self._best is not None:
            self.networks.load_state_dict(self._best[1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch, the hard inputs and the best weights."""
        checkpoint["batches"] = self.batches.epoch, self.batches.hard
        checkpoint["best"] = self._best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them, so that a resumed training draws the same inputs."""
        self.batches.epoch, self.batches.hard = checkpoint["batches"]
        self._best = checkpoint["best"]

    def evaluate(self, *, samples: int, seed: int) -> None:
        """Evaluate every level and the cascade, and collect the hard inputs of the cascade."""
        self.evaluations = [
            evaluate_exhaustively(network, scenario)
            for network, scenario in zip(self.networks, self.tree.levels, strict=True)
        ]
        hard: list[Tensor] = []

        def collect(codes_NP: Tensor, margin_P: Tensor) -> None:
            hard.append(codes_NP[:, margin_P < self.hard_margin])

        self.composed = evaluate_composed(
            AnalogCascade(list(self.networks), self.tree),
            chain(random_codes(self.tree, samples=samples, seed=seed), carry_chains(self.tree)),
            total=samples + count_carry_chains(self.tree),
            on_batch=collect,
        )
        found = torch.cat(hard, dim=1)
        self.batches.hard = torch.cat([found, self.batches.hard], dim=1)[:, :MOST_HARD]

    def _project(self) -> None:
        for network, design in zip(self._trained, self.designs[self.first :], strict=True):
            project_layers(network.linears, design.approximated_layers)
