"""The end of an ONN's training: the last wrong inputs, by Gauss-Newton steps on margins.

Gradients of a mean over all inputs hardly see the last wrong ones, and a step that is large enough
for these is too large for the hundreds of thousands of others. A damped Gauss-Newton step
(Levenberg-Marquardt) asks for the smallest change of all weights that gives every hard output its
margin (:mod:`optinc.onn.training.gauss_newton`), the nearly wrong ones included, so that they stay
right.
"""

# Shape suffixes: P inputs, K ONN inputs, M outputs, R outputs that are to move.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.onn.dataset import samples_of_index
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import BATCH_SIZE
from optinc.onn.network import OpticalNetwork
from optinc.onn.training.evaluated import EvaluatedTraining
from optinc.onn.training.gauss_newton import OutputGradients, Wanted, smallest_shares
from optinc.onn.training.settings import check_below, check_counts, check_positive
from optinc.signal import outputs

MOST_OUTPUTS = 1 << 15
"""Largest number of outputs that a step looks at: those with the smallest margins."""

MOST_DAMPINGS = 8
"""Dampings that a step tries before it gives up."""

STALLED = 0.9
"""Share of the missing margins that is left by a step after which the next continues outputs."""


class ONNFinishing(EvaluatedTraining):
    """Gives all inputs their margin by damped Gauss-Newton steps.

    All inputs are evaluated after every epoch of ``epoch_steps`` steps. These look at the hard
    inputs of the evaluation before, and end the epoch early once those have their margin.

    A step minimises the sum over outputs of max(``margin`` - m, 0)^2 of their margins m, to first
    order in the weights. The damping is the one, of several, after which the hard inputs have the
    smallest true sum; a step that would only raise it is not taken. After one that hardly lowered
    it, the next continues outputs that are wrong and dark, see
    :class:`~optinc.onn.training.gauss_newton.OutputGradients`, and may raise it. Layers in Sigma U
    form keep it: their scales and angles move.

    Args:
        design: Scenario, structure and approximated layers.
        initial: Network to start from, of which few inputs are wrong.
        margin: Margin that every output is to have, in PAM4 amplitudes, above 0 and below 0.5.
        hard_margin: Outputs with a smaller margin are looked at in a step; above ``margin``.
        damping: Damping of the first step, above 0; later ones begin with that of the step before.
        epoch_steps: Largest number of steps between two evaluations, at least 1. Where evaluations
            are long, more than 1 saves time; inputs that turn hard on the way are seen later.
        max_epochs: Largest number of epochs.
        min_margin: Smallest margin at which training stops, in PAM4 amplitudes, below ``margin``.

    Raises:
        ConfigurationError: If a value is illegal, or there is no network to start from; names the
            setting and the legal values.
    """

    def __init__(
        self,
        *,
        design: ONNDesign,
        initial: OpticalNetwork | None,
        margin: float,
        hard_margin: float,
        damping: float,
        epoch_steps: int,
        max_epochs: int,
        min_margin: float,
    ) -> None:
        check_counts("onn_training", epoch_steps=epoch_steps, max_epochs=max_epochs)
        check_positive("onn_training.margin", margin)
        check_below("onn_training.hard_margin", hard_margin, limit=0.5)
        check_below("onn_training.margin", margin, limit=hard_margin)
        check_positive("onn_training.damping", damping)
        check_below("onn_training.min_margin", min_margin, limit=margin)
        if initial is None:
            raise ConfigurationError(
                "onn_training=finish corrects the last wrong inputs of an ONN that is nearly "
                "right: set onn_training.initial to a folder with one, or to the name of a shipped "
                "one (task=list_onns)"
            )
        super().__init__(
            design=design,
            network=initial,
            min_margin=min_margin,
            hard_margin=hard_margin,
            epoch_steps=epoch_steps,
            max_epochs=max_epochs,
        )
        self.margin = margin
        self.first_damping = self.damping = damping
        self.stalled = False
        self._missing_after = float("inf")

    @property
    def steps_taken(self) -> int:
        """Number of steps taken so far: an epoch may end early."""
        return self.trainer.global_step

    def train_dataloader(self) -> DataLoader[int]:
        """Return the numbers of an epoch's steps: a step takes the hard inputs."""
        return DataLoader(range(self.epoch_steps))  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimiser that changes nothing: Lightning counts steps by it."""
        return torch.optim.SGD(self.network.parameters(), lr=0.0)

    def on_train_start(self) -> None:
        """Look for hard inputs, unless a checkpoint has brought them."""
        if not len(self.hard):
            self.evaluate()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the damping too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["damping"], checkpoint["stalled"] = self.damping, self.stalled

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the damping too."""
        super().on_load_checkpoint(checkpoint)
        self.damping, self.stalled = checkpoint["damping"], checkpoint["stalled"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """End the epoch, by -1, once the hard inputs have their margin."""
        return -1 if batch_idx and not self._missing_after else None

    @torch.no_grad()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Take a step on the hard inputs of the last evaluation."""
        averages_PK, symbols_PM = samples_of_index(self.hard.to(self.device), self.design.scenario)
        margin_PM, sign_PM = self._margins(averages_PK, symbols_PM)
        self._step(averages_PK, symbols_PM, margin_PM=margin_PM, sign_PM=sign_PM)
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()

    def _step(
        self, averages_PK: Tensor, symbols_PM: Tensor, *, margin_PM: Tensor, sign_PM: Tensor
    ) -> None:
        missing = self._missing_after = self._missing(margin_PM)
        self.log(
            "missing_margin", missing, on_step=False, on_epoch=True, reduce_fx="min", batch_size=1
        )
        small_R = (margin_PM.flatten() < self.hard_margin).nonzero().squeeze(1)
        if not missing:
            return
        count = min(MOST_OUTPUTS, len(small_R))
        small_R = small_R[margin_PM.flatten()[small_R].topk(count, largest=False).indices]
        input_R, output_R = small_R // margin_PM.shape[1], small_R % margin_PM.shape[1]
        margin_R = margin_PM.flatten()[small_R]
        wanted = Wanted(
            averages_PK[input_R],
            output_R=output_R,
            sign_R=sign_PM.flatten()[small_R],
            continued_R=(margin_R < self.min_margin) & self.stalled,
        )
        gradients = OutputGradients(self.network, wanted, self.design.approximated_layers)
        residual_R = (self.margin - margin_R - gradients.beyond_R).double()
        none_R = torch.zeros_like(residual_R)
        shares: dict[float, Tensor] = {}
        found: dict[float, float] = {}

        def tried(damping: float) -> float:
            start_R = next(reversed(shares.values()), none_R)
            shares[damping] = smallest_shares(
                gradients, residual_R, damping=damping, start_R=start_R
            )
            gradients.apply(shares[damping])
            margin_PM, _ = self._margins(averages_PK, symbols_PM)
            found[damping] = self._missing(margin_PM)
            return found[damping]

        # Outputs that become lit may first leave others with less margin than before.
        continued = bool(gradients.beyond_R.any())
        damping = self.first_damping if continued else self.damping
        if tried(damping) < missing or continued:
            # Less damping as long as the true margins follow.
            while len(found) < MOST_DAMPINGS and tried(damping / 3) < found[damping]:
                damping /= 3
        else:
            while len(found) < MOST_DAMPINGS and found[damping] >= missing:
                damping *= 3
                tried(damping)
        best = min(found, key=lambda each: found[each])
        taken = found[best] < missing or continued
        gradients.apply(shares[best] if taken else none_R)
        self._missing_after = found[best] if taken else missing
        self.stalled = not continued and found[best] > STALLED * missing
        # Otherwise it would only ever fall.
        self.damping = 2 * best

    def _margins(self, averages_PK: Tensor, symbols_PM: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins and the direction in which they grow, 1 or -1, float32 [P, M]."""
        amplitudes_PM = torch.cat(
            [self.network(part) for part in torch.split(averages_PK, BATCH_SIZE)]
        )
        with torch.enable_grad():
            amplitudes_PM.requires_grad_(True)
            margin_PM = outputs.threshold_margin(amplitudes_PM, symbols_PM, self.design.scenario)
            (sign_PM,) = torch.autograd.grad(margin_PM.sum(), amplitudes_PM)
        return margin_PM.detach(), sign_PM

    def _missing(self, margin_PM: Tensor) -> float:
        """Return the sum that a step minimises."""
        return float((self.margin - margin_PM).clamp(min=0).double().square().sum())
