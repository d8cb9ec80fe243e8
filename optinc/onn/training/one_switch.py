"""Hardware-aware training of an ONN on all of its possible inputs (Sec. III-B, eq. 7)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.onn.approximation import project_layers
from optinc.onn.dataset import ExhaustiveDataset, Samples
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation, HardInputs, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import noisy_forward
from optinc.onn.training.batches import MinedIndexBatches
from optinc.onn.training.losses import ONNLoss
from optinc.onn.training.optimizers import OptimizerName, make_optimizers, one_cycle
from optinc.signal import outputs
from optinc.signal.scenario import MAX_TABLE_ENTRIES

MOST_HARD_INPUTS = 1 << 17
"""Hard inputs remembered from one evaluation to the next."""

MOST_WRONG_INPUTS = 1 << 14
"""An evaluation between epochs ends at so many wrong inputs: it will not stop the training."""


def new_network(design: ONNDesign) -> OpticalNetwork:
    """Build an untrained network: input amplitudes and targets lie within -1 to 1."""
    return OpticalNetwork(
        design.structure,
        input_scale=2 / design.scenario.full_scale,
        input_offset=-1.0,
        output_scale=1.5,
        output_offset=1.5,
    )


class ONNTraining(pl.LightningModule):
    """Trains an ONN until every possible input is received right.

    The approximated layers are projected onto Sigma U every ``projection_interval`` steps and at
    the end of every epoch, right before the exhaustive evaluation; so what is evaluated, and kept,
    always satisfies the approximation. Training stops as soon as no input is wrong and every
    output keeps ``min_margin`` from the receivers' thresholds: an input that is right by less than
    float32 rounding could turn wrong on another machine. Else the best weights evaluated are kept,
    those with the smallest share of wrong inputs and then the largest margin; under noise, where
    these are not the aim, the last ones.

    Args:
        design: Scenario, structure and approximated layers.
        loss: The objective.
        optimizer: See :func:`optinc.onn.training.optimizers.make_optimizers`.
        learning_rate: Peak of the one-cycle schedule.
        batch_size: Inputs per step.
        max_epochs: Length of the one-cycle schedule, in epochs.
        projection_interval: Steps between projections, at least 1.
        min_margin: Smallest margin to stop at, in PAM4 amplitudes, at least 0 and below 0.5.
        noise: Standard deviation of Gaussian noise on every layer's inputs during training, as a
            share of the layer's full scale. With noise the whole schedule is trained, since inputs
            that are right without it may be wrong with it.
        epoch_inputs: Inputs per epoch; None for all. All are evaluated after every epoch, up to
            :data:`MOST_WRONG_INPUTS` wrong ones.
        hard_share: Share of each batch drawn from the hard inputs that the last evaluation found:
            those wrong, or with a margin below ``hard_margin``.
        hard_margin: In PAM4 amplitudes.
        seed: Determines the order of the inputs.
        initial: Network to start from; None for a random one.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.

    Attributes:
        evaluation: Evaluation of the current weights, None before the first epoch ends; exhaustive
            if ``evaluated_inputs`` is all of them. After the training, of the weights kept.
    """

    def __init__(
        self,
        *,
        design: ONNDesign,
        loss: ONNLoss,
        optimizer: OptimizerName,
        learning_rate: float,
        batch_size: int,
        max_epochs: int,
        projection_interval: int,
        min_margin: float,
        noise: float,
        epoch_inputs: int | None,
        hard_share: float,
        hard_margin: float,
        seed: int,
        initial: OpticalNetwork | None = None,
    ) -> None:
        super().__init__()
        # Lightning steps one optimiser by itself; here may be two.
        self.automatic_optimization = False
        for name, value in (
            ("batch_size", batch_size),
            ("max_epochs", max_epochs),
            ("projection_interval", projection_interval),
            ("epoch_inputs", epoch_inputs),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(f"onn_training.{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ConfigurationError(f"onn_training.learning_rate must be > 0, got {learning_rate}")
        if not 0 <= min_margin < 0.5:
            raise ConfigurationError(
                f"onn_training.min_margin must be at least 0 and below 0.5, got {min_margin}"
            )
        if not 0 <= hard_share < 1:
            raise ConfigurationError(
                f"onn_training.hard_share must be at least 0 and below 1, got {hard_share}"
            )
        if not 0 <= noise < 1:
            raise ConfigurationError(
                f"onn_training.noise must be at least 0 and below 1, got {noise}"
            )
        if not design.scenario.tabulable:
            raise ConfigurationError(
                f"task=train_onn trains on all possible inputs, and optinc.bits="
                f"{design.scenario.bits} with optinc.servers={design.scenario.servers} has "
                f"{design.scenario.combinations} of them; at most {MAX_TABLE_ENTRIES} are legal"
            )
        self.design = design
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.projection_interval = projection_interval
        self.min_margin = min_margin
        self.noise = noise
        self.hard_margin = hard_margin
        self.sampler = MinedIndexBatches(
            size=design.scenario.combinations,
            batch_size=batch_size,
            seed=seed,
            epoch_inputs=epoch_inputs,
            hard_share=hard_share,
        )
        self.network = new_network(design) if initial is None else initial
        self.network.train().requires_grad_(True)
        self._project()
        self.evaluation: Evaluation | None = None
        self._best: tuple[Evaluation, dict[str, Tensor]] | None = None

    def train_dataloader(self) -> DataLoader[Samples]:
        """Batches of the full enumeration, generated from their indices."""
        dataset = ExhaustiveDataset(self.design.scenario)
        # A generator of its own: a new iterator would draw from the global one, and the noise after
        # resuming would differ from that of an uninterrupted training.
        generator = torch.Generator()
        return DataLoader(dataset, batch_size=None, sampler=self.sampler, generator=generator)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Optimisers under a one-cycle learning rate over ``max_epochs``."""
        optimizers = make_optimizers(self.network, self.optimizer, learning_rate=self.learning_rate)
        steps = len(self.sampler) * self.max_epochs
        return optimizers, one_cycle(optimizers, learning_rate=self.learning_rate, steps=steps)

    def training_step(self, batch: Samples, batch_idx: int) -> None:
        """Take one step, and project the approximated layers when it is time."""
        if self.noise:
            amplitudes = noisy_forward(self.network, batch.averages_PK, noise=self.noise)
        else:
            amplitudes = self.network(batch.averages_PK)
        steps = outputs.steps_of(self.design.scenario, like=amplitudes)
        loss = self.loss(amplitudes, batch.symbols_PM, epoch=self.current_epoch, steps_M=steps)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.batch_size)
        take_step(self, loss)
        if (batch_idx + 1) % self.projection_interval == 0:
            self._project()

    def on_train_epoch_end(self) -> None:
        """Project, evaluate all inputs, and stop if every one is received right."""
        self._project()
        hard = HardInputs(below=self.hard_margin, limit=MOST_HARD_INPUTS)
        evaluation = evaluate_exhaustively(
            self.network, self.design.scenario, hard=hard, most_wrong=MOST_WRONG_INPUTS
        )
        self.sampler.hard = hard.index
        self.evaluation = evaluation
        if self._best is None or _rank(evaluation) > _rank(self._best[0]):
            weights = {name: value.clone() for name, value in self.network.state_dict().items()}
            self._best = evaluation, weights
        values = {
            "wrong_inputs": float(evaluation.wrong_inputs),
            "accuracy": evaluation.accuracy,
            "smallest_margin": evaluation.smallest_margin,
        }
        self.log_dict(values, prog_bar=True)
        perfect = evaluation.wrong_inputs == 0 and evaluation.smallest_margin >= self.min_margin
        if perfect and not self.noise:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Keep the best weights."""
        if self._best is not None and not self.noise:
            self.evaluation, weights = self._best
            self.network.load_state_dict(weights)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the hard inputs, so that a resumed training draws the same ones, and the best."""
        checkpoint["hard_inputs"] = self.sampler.hard
        if self._best is not None:
            checkpoint["best"] = asdict(self._best[0]), self._best[1]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the hard inputs and the best weights."""
        self.sampler.hard = checkpoint["hard_inputs"]
        if "best" in checkpoint:
            evaluation, weights = checkpoint["best"]
            self._best = Evaluation(**evaluation), weights

    def _project(self) -> None:
        project_layers(self.network.linears, self.design.approximated_layers)


def _rank(evaluation: Evaluation) -> tuple[float, float]:
    """Order evaluations, the best one last."""
    return evaluation.accuracy, evaluation.smallest_margin


def take_step(module: pl.LightningModule, loss: Tensor) -> None:
    """Step all optimisers and schedules of a module that optimises by hand."""
    optimizers, schedulers = _as_list(module.optimizers()), _as_list(module.lr_schedulers())
    for optimizer in optimizers:
        optimizer.zero_grad()
    module.manual_backward(loss)
    for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
        optimizer.step()
        scheduler.step()


def _as_list(value: Any) -> list[Any]:
    """Undo Lightning's unpacking of lists of one."""
    return list(value) if isinstance(value, list | tuple) else [value]
