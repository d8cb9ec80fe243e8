"""Fine-tuning of all levels of a cascade together, without receivers between them (Sec. III-C).

Levels that are right on all of their own inputs may be wrong together: a receiver forgives analog
errors of up to half a step, but no receiver stands between the levels, and a step of the last input
of level l is N^(l-1) times finer.
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
    evaluate_cascade,
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
from optinc.onn.training.optimizers import (
    OptimizerName,
    follow_own_schedule,
    make_optimizers,
    one_cycle,
)
from optinc.onn.training.settings import check_below, check_counts, check_positive
from optinc.signal import outputs, pam4
from optinc.signal.tree import Tree

MOST_HARD = 1 << 17
"""Largest number of hard inputs of a cascade kept between two evaluations."""


class CascadeBatches(IterableDataset[Tensor]):
    """Batches of codes of all servers, int32 [N, P]: worst cases of carries, hard and random ones.

    A quarter of every batch are worst cases, and a quarter hard inputs once there are any.

    Args:
        tree: The cascade.
        batch_size: Inputs P per batch.
        batches: Batches per epoch.
        seed: Seed of the draws.

    Attributes:
        hard: Codes of the hard inputs, int32 tensor [N, hard inputs]; set after an evaluation.
        epoch: Number of the epoch, which the draws depend on.
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
    """Trains the ONNs of a cascade on the outputs of its top level.

    The loss is the sum of the loss of the cascade and the losses of all trained levels on their own
    inputs, so that each level stays right on its own. Approximated layers are projected as in
    :class:`~optinc.onn.training.one_switch.ONNTraining`. After every epoch each level is evaluated
    on all of its inputs, and the cascade on ``check_samples`` random ones and all worst cases of
    carries. Training stops once no input is wrong and the cascade has a margin of ``min_margin``;
    otherwise the best evaluated weights are kept.

    Args:
        tree: The cascade.
        networks: One network for each level, from the servers to the top; trained in place.
        designs: Scenarios, structures and approximated layers of the levels.
        loss: The loss of outputs before a receiver.
        optimizer: See :func:`optinc.onn.training.optimizers.make_optimizers`.
        learning_rate: Peak of the one-cycle schedule.
        first_level: 1-based lowest level that is trained; the levels below it are frozen.
        batch_size: Inputs per step.
        epoch_batches: Steps per epoch.
        max_epochs: Length of the one-cycle schedule, in epochs.
        projection_interval: Steps between projections, at least 1.
        check_samples: Number of random inputs in the evaluation after an epoch.
        hard_margin: Margin below which an input of the cascade is hard, in PAM4 amplitudes; hard
            inputs are drawn more often.
        min_margin: Smallest margin of the cascade at which training stops, in PAM4 amplitudes, at
            least 0 and below 0.5.
        seed: Seed of the inputs.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.

    Attributes:
        evaluations: Last evaluation of each level on its own inputs.
        cascade_evaluation: Last evaluation of the whole cascade.
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
        # Lightning steps a single optimiser by itself; here are several.
        self.automatic_optimization = False
        if first_level not in range(1, tree.depth + 1):
            raise ConfigurationError(
                f"cascade_tuning.first_level must be 1 to {tree.depth}, got {first_level}"
            )
        check_counts(
            "cascade_tuning",
            batch_size=batch_size,
            epoch_batches=epoch_batches,
            max_epochs=max_epochs,
            projection_interval=projection_interval,
            check_samples=check_samples,
        )
        check_positive("cascade_tuning.learning_rate", learning_rate)
        check_below("cascade_tuning.min_margin", min_margin, limit=0.5)
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
        self.cascade_evaluation: Evaluation | None = None
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        self._trained_on = "cpu"

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the batches of codes of all servers."""
        # With the global generator a new iterator would draw from it, and a resumed training would
        # see other inputs than an uninterrupted one.
        return DataLoader(self.batches, batch_size=None, generator=torch.Generator())

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Return the optimisers of all trained levels, under a one-cycle learning rate."""
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
        """Tabulate the outputs of the frozen levels, where they can be tabulated."""
        self._below = AnalogCascade(list(self.networks[: self.first]), self.tree)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on the losses of the cascade and of every trained level."""
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=batch.shape[1])
        take_step(self, loss)
        if (batch_idx + 1) % self.projection_interval == 0:
            self._project()

    def _loss(self, batch: Tensor) -> Tensor:
        """Return the loss of the cascade on a batch, plus those of its levels on random inputs."""
        code_P = outputs.ideal_average(batch, self.tree.whole)
        symbols_PM = pam4.encode(code_P, symbols=self.tree.whole.received_symbols)
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
        """Project, evaluate, and stop if no input is wrong."""
        self._project()
        self.batches.epoch += 1
        self.evaluate(samples=self.check_samples, seed=self.batches.epoch)
        assert self.cascade_evaluation is not None
        wrong = (
            sum(level.wrong_inputs for level in self.evaluations)
            + self.cascade_evaluation.wrong_inputs
        )
        rank = (-float(wrong), self.cascade_evaluation.smallest_margin)
        if self._best is None or rank > self._best[0]:
            weights = {name: value.clone() for name, value in self.networks.state_dict().items()}
            self._best = rank, weights
        self.log_dict(
            {
                "composed_wrong": float(self.cascade_evaluation.wrong_inputs),
                "composed_margin": self.cascade_evaluation.smallest_margin,
                **{
                    f"level{i}_wrong": float(level.wrong_inputs)
                    for i, level in enumerate(self.evaluations, start=1)
                },
            },
            prog_bar=True,
        )
        if self._perfect(rank):
            self.trainer.should_stop = True

    def _perfect(self, rank: tuple[float, float]) -> bool:
        """Whether nothing is left to train."""
        return not rank[0] and rank[1] >= self.min_margin

    def on_fit_start(self) -> None:
        """Stop at once if the checkpoint's training had ended since every input was right."""
        self._trained_on = self.device.type
        if self._best is not None and self._perfect(self._best[0]):
            self.trainer.should_stop = True

    def on_fit_end(self) -> None:
        """Load the best weights; a training that is resumed at its end has no end of its own."""
        epochs = self.trainer.fit_loop.epoch_progress.current
        # A checkpoint counts the epoch that it was written in as processed only.
        epochs.completed = epochs.processed  # type: ignore[attr-defined]
        if self._best is not None:
            self.networks.load_state_dict(self._best[1])

    def to_cpu(self) -> None:
        """Project on the CPU what was trained on a GPU, which may round more, if it was."""
        if self._trained_on != "cpu":
            self.networks.cpu()
            self._project()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the epoch, the hard inputs and the best weights."""
        checkpoint["designs"] = repr(self.designs)
        checkpoint["batches"] = self.batches.epoch, self.batches.hard
        checkpoint["best"] = self._best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the epoch, the hard inputs and the best weights, unless of other designs.

        The learning rates become those of this schedule, whose length may be another.
        """
        follow_own_schedule(checkpoint)
        self.batches.epoch, hard = checkpoint["batches"]
        if checkpoint.get("designs", repr(self.designs)) == repr(self.designs):
            self.batches.hard, self._best = hard, checkpoint["best"]

    def evaluate(self, *, samples: int, seed: int) -> None:
        """Evaluate every level and the cascade, and collect the hard inputs of the cascade.

        Args:
            samples: Number of random inputs of the cascade.
            seed: Seed of these inputs.
        """
        self.evaluations = [
            evaluate_exhaustively(network, scenario)
            for network, scenario in zip(self.networks, self.tree.levels, strict=True)
        ]
        hard: list[Tensor] = []

        def collect(codes_NP: Tensor, margin_P: Tensor) -> None:
            hard.append(codes_NP[:, margin_P < self.hard_margin])

        self.cascade_evaluation = evaluate_cascade(
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
