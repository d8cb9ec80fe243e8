"""Hardware-aware training of the ONN of one switch on all possible inputs (Sec. III-B, eq. 7)."""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.onn.approximation import (
    blocks_by_size,
    layer_form,
    project_layers,
    put_blocks,
)
from optinc.onn.dataset import ExhaustiveDataset, Samples
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import noisy_forward
from optinc.onn.training.batches import EvenInputs, MinedIndexBatches
from optinc.onn.training.drawn_chips import FreshChips
from optinc.onn.training.evaluated import EvaluatedTraining
from optinc.onn.training.losses import ONNLoss
from optinc.onn.training.optimizers import OptimizerName, make_optimizers, one_cycle
from optinc.onn.training.settings import check_below, check_counts, check_positive
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import outputs


def new_network(design: ONNDesign) -> OpticalNetwork:
    """Build an untrained network, scaled so that its inputs and targets lie within -1 to 1."""
    return OpticalNetwork(design.structure, **design.scales)


class ONNTraining(EvaluatedTraining):
    """Trains an ONN by gradients until every possible input is received right.

    The approximated layers are projected onto Sigma U every ``projection_interval`` steps too.
    Under noise or through drawn chips, which are trained for another aim, the whole schedule is
    trained and the last weights are kept, not the best. With ``averaging`` it is the average that
    is evaluated and kept.

    Args:
        design: Scenario, structure and approximated layers.
        loss: The loss.
        optimizer: See :func:`optinc.onn.training.optimizers.make_optimizers`.
        learning_rate: Peak of the one-cycle schedule.
        batch_size: Inputs per step.
        max_epochs: Length of the one-cycle schedule, in epochs.
        max_steps: Length of the schedule in steps instead, rounded up to whole epochs; None for
            ``max_epochs``.
        epoch_steps: Fewest steps of an epoch that takes all inputs: few inputs are passed through
            several times. An epoch of a single step would end the schedule after ``max_epochs``
            steps, and be evaluated after each.
        projection_interval: Steps between projections, at least 1.
        min_margin: Smallest margin at which training stops, in PAM4 amplitudes, at least 0 and
            below 0.5.
        noise: Standard deviation of Gaussian noise on every layer's inputs during training, as a
            share of the layer's full scale. With noise the whole schedule is trained, since inputs
            that are right without it may be wrong with it.
        epoch_inputs: Inputs per epoch; None for all. All are evaluated after every epoch, up to
            16,384 wrong ones.
        hard_share: Share of each batch drawn from the hard inputs of the last evaluation: wrong
            ones, and right ones with a margin below ``hard_margin``.
        hard_margin: Margin below which an input is hard, in PAM4 amplitudes.
        even_share: Share of each batch in which all sums of the servers' codes are drawn equally
            often; few inputs have a sum near the ends of the range. With ``hard_share`` below 1.
        seed: Seed of the order of the inputs.
        averaging: Decay of a running average of the weights, per step, at least 0 and below 1. The
            average, projected, is then evaluated and kept in place of the weights themselves, which
            vary by the learning rate around it; 0 for none.
        initial: Network to start from; None for random weights.
        drawn: Chips that every step is played by, errors and noise included; None for the network
            itself. The whole schedule is trained, as with noise. Layers that are attenuators
            without a mesh at the start stay so, and weights for which a crossbar has none stay 0.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
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
        max_steps: int | None,
        epoch_steps: int,
        projection_interval: int,
        min_margin: float,
        noise: float,
        epoch_inputs: int | None,
        hard_share: float,
        hard_margin: float,
        seed: int,
        even_share: float = 0.0,
        averaging: float = 0.0,
        initial: OpticalNetwork | None = None,
        drawn: FreshChips | None = None,
    ) -> None:
        check_counts(
            "onn_training",
            batch_size=batch_size,
            max_epochs=max_epochs,
            max_steps=max_steps,
            epoch_steps=epoch_steps,
            projection_interval=projection_interval,
            epoch_inputs=epoch_inputs,
        )
        check_positive("onn_training.learning_rate", learning_rate)
        check_below("onn_training.hard_share", hard_share, limit=1)
        check_below("onn_training.even_share", even_share, limit=1 - hard_share)
        check_below("onn_training.noise", noise, limit=1)
        check_below("onn_training.averaging", averaging, limit=1)
        if noise and drawn is not None:
            raise ConfigurationError(
                f"onn_training.noise={noise:g} stands for a chip's noise, and onn_training.chips="
                f"{drawn.chips} plays the chip itself: set onn_training.noise=0, and "
                "optinc.chip.noise instead"
            )
        sampler = MinedIndexBatches(
            size=design.scenario.combinations,
            batch_size=batch_size,
            seed=seed,
            epoch_inputs=epoch_inputs,
            least_batches=epoch_steps,
            hard_share=hard_share,
            even_share=even_share,
            even=EvenInputs(design.scenario) if even_share else None,
        )
        super().__init__(
            design=design,
            network=new_network(design) if initial is None else initial,
            min_margin=min_margin,
            hard_margin=hard_margin,
            epoch_steps=len(sampler),
            max_epochs=max_epochs if max_steps is None else -(-max_steps // len(sampler)),
        )
        self.sampler = sampler
        self.drawn = drawn
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.projection_interval = projection_interval
        self.noise = noise
        self._lit = {} if drawn is None else _lit(self.network, design, drawn.settings)
        self.project(self.network)
        self.average: AveragedModel | None = None
        if averaging:
            moving = get_ema_multi_avg_fn(averaging)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, multi_avg_fn=moving).requires_grad_(False)

    def train_dataloader(self) -> DataLoader[Samples]:
        """Return the batches of all possible inputs, generated from their indices."""
        dataset = ExhaustiveDataset(self.design.scenario, device=self.device)
        # With the global generator a new iterator would draw from it, and a resumed training would
        # see other noise than an uninterrupted one.
        generator = torch.Generator()
        return DataLoader(dataset, batch_size=None, sampler=self.sampler, generator=generator)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Return the optimisers, under a one-cycle learning rate over ``max_epochs``."""
        optimizers = make_optimizers(self.network, self.optimizer, learning_rate=self.learning_rate)
        schedules = one_cycle(optimizers, learning_rate=self.learning_rate, steps=self.steps)
        return optimizers, schedules

    def training_step(self, batch: Samples, batch_idx: int) -> None:
        """Take one step; project the approximated layers every ``projection_interval`` steps."""
        amplitudes, symbols = self._played(batch, batch_idx)
        steps = outputs.steps_of(self.design.scenario, like=amplitudes)
        loss = self.loss(amplitudes, symbols, epoch=self.current_epoch, steps_M=steps)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.batch_size)
        take_step(self, loss)
        if (batch_idx + 1) % self.projection_interval == 0:
            self.project(self.network)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _played(self, batch: Samples, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Return the outputs of a batch, and the symbols to be received, [P, M] or [C P, M]."""
        if self.drawn is None:
            if not self.noise:
                return self.network(batch.averages_PK), batch.symbols_PM
            noisy = noisy_forward(self.network, batch.averages_PK, noise=self.noise)
            return noisy, batch.symbols_PM
        # From the first step of an epoch on, so that a resumed training does the same.
        step = self.current_epoch * len(self.sampler) + batch_idx
        if batch_idx % self.drawn.mapping_interval == 0:
            self.drawn.set_meshes(self.network, step=step)
        amplitudes_CPM = self.drawn.play(self.network, batch.averages_PK, step=step)
        self._log_chips(amplitudes_CPM.detach(), batch.symbols_PM)
        return amplitudes_CPM.flatten(0, 1), batch.symbols_PM.repeat(self.drawn.chips, 1)

    def _log_chips(self, amplitudes_CPM: Tensor, symbols_PM: Tensor) -> None:
        """Log what fresh chips receive right, and how far (rms) outputs are from their targets."""
        scenario = self.design.scenario
        right_CP = (outputs.receive(amplitudes_CPM, scenario) == symbols_PM).all(-1)
        error_CPM = amplitudes_CPM - symbols_PM / outputs.steps_of(scenario, like=amplitudes_CPM)
        values = {
            "chip_accuracy": right_CP.float().mean(),
            "chip_deviation": error_CPM.square().mean().sqrt(),
        }
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=self.batch_size)

    def evaluate(self) -> Evaluation:
        """Evaluate all possible inputs, and draw from its hard ones from now on."""
        evaluation = super().evaluate()
        self.sampler.hard = self.hard
        return evaluation

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the hard inputs and the best weights.

        Raises:
            ConfigurationError: If another kind of training wrote the checkpoint, or only one of the
                two averages the weights.
        """
        super().on_load_checkpoint(checkpoint)
        averaged = any(name.startswith("average.") for name in checkpoint["state_dict"])
        if averaged != (self.average is not None):
            raise ConfigurationError(
                f"the checkpoint was written with{'' if averaged else 'out'} "
                "onn_training.averaging, and is continued the same way alone; or start from its "
                "ONN by onn_training.initial"
            )
        self.sampler.hard = self.hard

    @property
    def whole_schedule(self) -> bool:
        """Whether inputs that are right on ideal parts are not the aim."""
        return bool(self.noise) or self.drawn is not None

    def result(self) -> OpticalNetwork:
        """Return the network that counts: the one that is trained, or its average, projected."""
        if self.average is None:
            return self.network
        network = copy.deepcopy(self.average.module)
        assert isinstance(network, OpticalNetwork)
        self.project(network)
        return network

    @torch.no_grad()
    def project(self, network: OpticalNetwork) -> None:
        """Project as :class:`EvaluatedTraining` does, in place, and keep dark ways dark."""
        meshes = [
            index
            for index in self.design.approximated_layers
            if f"layers.{index - 1}.weight" not in self._lit
        ]
        project_layers(network.linears, meshes)
        for name, lit in self._lit.items():
            parameter = network.get_parameter(name)
            parameter.mul_(lit.to(parameter.device))


def _lit(network: OpticalNetwork, design: ONNDesign, chip: ChipSettings) -> dict[str, Tensor]:
    """Return where parameters may differ from 0, since no other light has a way.

    Diagonal layers are attenuators without a mesh. A crossbar has an attenuator for each weight and
    bias that is not 0; its layers in Sigma U form are projected instead.

    Returns:
        float32 of 0 and 1 by the name of the parameter.
    """
    crossbar, lit = chip.hardware == "crossbar", {}
    for i, layer in enumerate(network.linears):
        approximated = i + 1 in design.approximated_layers
        if crossbar:
            lit[f"layers.{i}.bias"] = (layer.bias.detach() != 0).float()
        if approximated and layer_form(layer.weight, approximated=True) == "diagonal":
            lit[f"layers.{i}.weight"] = _block_diagonals(layer)
        elif crossbar and not approximated:
            lit[f"layers.{i}.weight"] = (layer.weight.detach() != 0).float()
    return lit


def _block_diagonals(layer: nn.Linear) -> Tensor:
    """Return 1 on the diagonals of a layer's square blocks and 0 elsewhere, float32 [m, n]."""
    lit_mn = torch.zeros(layer.weight.shape)
    for size, blocks in blocks_by_size(*layer.weight.shape).items():
        put_blocks(lit_mn, blocks, torch.eye(size).expand(len(blocks), -1, -1))
    return lit_mn


def take_step(module: pl.LightningModule, loss: Tensor) -> None:
    """Step all optimisers and schedules of a module with manual optimisation."""
    optimizers, schedulers = _as_list(module.optimizers()), _as_list(module.lr_schedulers())
    for optimizer in optimizers:
        optimizer.zero_grad()
    module.manual_backward(loss)
    for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
        optimizer.step()
        scheduler.step()


def _as_list(value: Any) -> list[Any]:
    """Return a list: Lightning unpacks lists of one."""
    return list(value) if isinstance(value, list | tuple) else [value]
