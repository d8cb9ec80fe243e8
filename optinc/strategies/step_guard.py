"""End of a training that has diverged, instead of skipping steps for ever."""

from __future__ import annotations

from optinc.errors import ConfigurationError, DivergedError


class StepGuard:
    """Counts consecutive steps that were skipped because of non-finite gradients.

    Args:
        most_skipped: Number of consecutive skipped steps that ends the training.

    Attributes:
        skipped: Consecutive skipped steps so far.

    Raises:
        ConfigurationError: If ``most_skipped`` is less than 1.
    """

    def __init__(self, most_skipped: int = 10) -> None:
        if most_skipped < 1:
            raise ConfigurationError(
                f"strategy.most_skipped_steps must be at least 1, got {most_skipped}"
            )
        self.most_skipped = most_skipped
        self.skipped = 0

    def note(self, skipped: bool, last_checkpoint: str | None) -> None:
        """Count a skipped step, or start the count anew after any other.

        Args:
            skipped: Whether the step was skipped.
            last_checkpoint: Path of the last good checkpoint for the message; None or "" if there
                is none.

        Raises:
            DivergedError: If ``most_skipped`` steps in a row were skipped.
        """
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped >= self.most_skipped:
            steps = "step" if self.skipped == 1 else f"{self.skipped} steps"
            raise DivergedError(
                f"the last {steps} had non-finite gradients and changed nothing "
                f"(strategy.most_skipped_steps={self.most_skipped}); last good checkpoint: "
                f"{last_checkpoint or 'none'}; lower the learning rate, set "
                "trainer.gradient_clip_val, or find the operation with debug=anomaly and "
                "optinc.quantization.nonfinite=raise"
            )
