"""Ends a training that has diverged, in place of skipping steps for ever."""

from __future__ import annotations

from optinc.errors import ConfigurationError, DivergedError


class StepGuard:
    """Counts the steps in a row that were skipped because their gradients were not finite.

    Args:
        most_skipped: Steps in a row after which the training ends.

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
        """Note what became of a step.

        Args:
            skipped: Whether it was skipped.
            last_checkpoint: The last good checkpoint, for the message; None or "" if there is none.

        Raises:
            DivergedError: If too many steps in a row were skipped.
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
