"""A training whose network is evaluated on all possible inputs after every epoch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.approximation import project_layers
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation, HardInputs, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.training.optimizers import follow_own_schedule
from optinc.onn.training.settings import check_below
from optinc.signal.scenario import MAX_TABLE_ENTRIES

MOST_HARD_INPUTS = 1 << 17
"""Largest number of hard inputs kept between two evaluations."""

MOST_WRONG_INPUTS = 1 << 14
"""Number of wrong inputs at which an evaluation between epochs ends; training goes on anyway."""


class EvaluatedTraining(pl.LightningModule):
    """Keeps the best evaluated weights, and stops once every possible input is received right.

    Approximated layers are projected onto Sigma U before an evaluation, so that evaluated weights
    always satisfy eq. (4). Every output must keep ``min_margin`` from the receivers' thresholds: an
    input that is right by less than float32 rounding could turn wrong on another machine. The best
    weights are those with the smallest share of wrong inputs, then with the largest margin.

    Args:
        design: Scenario, structure and approximated layers.
        network: The network that is trained, in place.
        min_margin: Smallest margin at which training stops, in PAM4 amplitudes, at least 0 and
            below 0.5.
        hard_margin: Margin below which an input is hard, in PAM4 amplitudes.
        epoch_steps: Steps of an epoch.
        max_epochs: Length of the training in epochs.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.

    Attributes:
        evaluation: Evaluation of the last epoch, and after the training of the weights kept; None
            before the first epoch ends. Not exhaustive if it ended at too many wrong inputs.
        hard: Indices of the hard inputs of the last evaluation, wrong ones among them, int64
            tensor; the hardest :data:`MOST_HARD_INPUTS`.
    """

    def __init__(
        self,
        *,
        design: ONNDesign,
        network: OpticalNetwork,
        min_margin: float,
        hard_margin: float,
        epoch_steps: int,
        max_epochs: int,
    ) -> None:
        super().__init__()
        # Lightning steps a single optimiser by itself; here may be two, or none.
        self.automatic_optimization = False
        check_below("onn_training.min_margin", min_margin, limit=0.5)
        scenario = design.scenario
        if not scenario.tabulable:
            raise ConfigurationError(
                f"task=train_onn trains on all possible inputs, and optinc.bits={scenario.bits} "
                f"with optinc.servers={scenario.servers} has {scenario.combinations} of them; at "
                f"most {MAX_TABLE_ENTRIES} are legal"
            )
        self.design = design
        self.network = network.train().requires_grad_(True)
        self.min_margin = min_margin
        self.hard_margin = hard_margin
        self.epoch_steps = epoch_steps
        self.max_epochs = max_epochs
        self.hard = torch.empty(0, dtype=torch.int64)
        self.evaluation: Evaluation | None = None
        self._best: tuple[Evaluation, dict[str, Tensor]] | None = None
        self._trained_on = "cpu"

    @property
    def steps(self) -> int:
        """Length of the training in steps."""
        return self.epoch_steps * self.max_epochs

    @property
    def steps_taken(self) -> int:
        """Number of steps taken so far, those before a checkpoint among them."""
        return self.trainer.current_epoch * self.epoch_steps

    def evaluate(self) -> Evaluation:
        """Project and evaluate the network that counts; keep its hard inputs, and it if best."""
        self.project(self.network)
        network = self.result()
        hard = HardInputs(below=self.hard_margin, limit=MOST_HARD_INPUTS)
        evaluation = evaluate_exhaustively(
            network, self.design.scenario, hard=hard, most_wrong=MOST_WRONG_INPUTS
        )
        self.hard = hard.index
        self.evaluation = evaluation
        if self._best is None or _rank(evaluation) > _rank(self._best[0]):
            weights = {name: value.clone() for name, value in network.state_dict().items()}
            self._best = evaluation, weights
        return evaluation

    def on_train_epoch_end(self) -> None:
        """Evaluate all possible inputs, and stop if all of them are received right."""
        evaluation = self.evaluate()
        values = {
            "wrong_inputs": float(evaluation.wrong_inputs),
            "accuracy": evaluation.accuracy,
            "smallest_margin": evaluation.smallest_margin,
        }
        self.log_dict(values, prog_bar=True)
        if self._perfect(evaluation):
            self.trainer.should_stop = True

    def on_fit_end(self) -> None:
        """Load the weights that are kept: the best, or the last of a whole schedule.

        A training that is resumed at its end takes no step, and has no end of its own.
        """
        epochs = self.trainer.fit_loop.epoch_progress.current
        # A checkpoint counts the epoch that it was written in as processed only.
        epochs.completed = epochs.processed  # type: ignore[attr-defined]
        if self.whole_schedule:
            self.network.load_state_dict(self.result().state_dict())
        elif self._best is not None:
            self.evaluation, weights = self._best
            self.network.load_state_dict(weights)

    def _perfect(self, evaluation: Evaluation) -> bool:
        """Whether nothing is left to train."""
        right = evaluation.wrong_inputs == 0 and evaluation.smallest_margin >= self.min_margin
        return right and not self.whole_schedule

    def on_fit_start(self) -> None:
        """Stop at once if the checkpoint's training had ended since every input was right."""
        self._trained_on = self.device.type
        if self._best is not None and self._perfect(self._best[0]):
            self.trainer.should_stop = True

    def to_cpu(self) -> None:
        """Project on the CPU what was trained on a GPU, which may round more, if it was."""
        if self._trained_on != "cpu":
            self.network.cpu()
            self.project(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the hard inputs, which a resumed training takes too, and the best weights."""
        checkpoint["training"] = type(self).__name__
        checkpoint["design"] = repr(self.design)
        checkpoint["hard_inputs"] = self.hard
        if self._best is not None:
            checkpoint["best"] = asdict(self._best[0]), self._best[1]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the hard inputs and the best weights, unless they are of another design.

        The learning rates become those of this schedule, whose length may be another.

        Raises:
            ConfigurationError: If another kind of training wrote the checkpoint.
        """
        # Before there were two kinds, checkpoints did not say theirs.
        written = checkpoint.get("training", "ONNTraining")
        if written != type(self).__name__:
            raise ConfigurationError(
                f"the checkpoint was written by another onn_training ({written}), which alone "
                "continues it: choose that, or start from its ONN by onn_training.initial"
            )
        follow_own_schedule(checkpoint)
        # What another switch receives right says nothing of this one.
        if checkpoint.get("design", repr(self.design)) != repr(self.design):
            return
        self.hard = checkpoint["hard_inputs"]
        if "best" in checkpoint:
            evaluation, weights = checkpoint["best"]
            self._best = Evaluation(**evaluation), weights

    @property
    def whole_schedule(self) -> bool:
        """Whether inputs that are right on ideal parts are not the aim, and do not end it."""
        return False

    def result(self) -> OpticalNetwork:
        """Return the network that counts."""
        return self.network

    @torch.no_grad()
    def project(self, network: OpticalNetwork) -> None:
        """Replace approximated layers by the nearest of form Sigma U (eq. 4), in place."""
        project_layers(network.linears, self.design.approximated_layers)


def _rank(evaluation: Evaluation) -> tuple[float, float]:
    """Return a sort key of evaluations, larger for better ones."""
    return evaluation.accuracy, evaluation.smallest_margin
