"""Effects of a chip that are swept one by one, and the level of each that an ONN bears."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optinc.photonics.chip_settings import ChipSettings, numbers


@dataclass(frozen=True)
class Effect:
    """A setting that is swept while all others are ideal.

    Attributes:
        name: The setting, ``optinc.chip.<name>``.
        levels: Its values, from harmless to harmful.
        beside: Settings without which it does nothing.
        drawn: Whether it differs from chip to chip.
    """

    name: str
    levels: tuple[float, ...]
    beside: Mapping[str, Any] = field(default_factory=dict)
    drawn: bool = False

    @property
    def unit(self) -> str:
        """Unit of the levels."""
        return next(str(each.metadata["unit"]) for each in numbers() if each.name == self.name)

    @property
    def logarithmic(self) -> bool:
        """Whether levels are compared by their ratio; dB and bits are logarithms already."""
        return self.unit not in ("dB", "dB/Hz", "dBm", "bits") or self.name == "mzi_loss_spread"

    def settings(self, level: float, *, seed: int) -> ChipSettings:
        """Return an ideal chip but for this effect."""
        whole = int(level) if self.unit == "bits" else level
        changed: dict[str, Any] = {**self.beside, self.name: whole}
        return replace(ChipSettings(seed=seed), **changed)


EFFECTS = (
    Effect("coupler_error", (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05), drawn=True),
    Effect("coupler_common_error", (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05)),
    Effect("phase_error", (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03), drawn=True),
    Effect("phase_bits", (14, 12, 10, 9, 8, 7, 6)),
    Effect("crosstalk", (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 2e-3)),
    Effect("extinction", (90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0)),
    Effect("mzi_loss_spread", (0.001, 0.003, 0.01, 0.02, 0.05, 0.1), drawn=True),
    Effect("skip_loss", (0.249, 0.245, 0.24, 0.2, 0.1, 0.0), {"mzi_loss": 0.25}),
    Effect("splitter_imbalance", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), drawn=True),
    Effect("attenuator_error", (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05), drawn=True),
    Effect("bias_error", (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05), drawn=True),
    Effect("gain_error", (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05), drawn=True),
    Effect("level_error", (0.001, 0.003, 0.01, 0.02, 0.05, 0.1), drawn=True),
    Effect("modulator_extinction", (60.0, 50.0, 40.0, 35.0, 30.0, 25.0, 20.0, 15.0)),
    Effect("server_imbalance", (0.001, 0.003, 0.01, 0.02, 0.05, 0.1), drawn=True),
    Effect("server_phase", (0.01, 0.03, 0.1, 0.2, 0.5, math.inf), drawn=True),
    Effect("relu_knee", (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)),
    Effect("relu_leak", (100.0, 80.0, 70.0, 60.0, 50.0, 40.0)),
    Effect("noise", (0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02)),
    Effect("receiver_noise", (0.01, 0.02, 0.03, 0.05, 0.1)),
    Effect("rin", (-185.0, -175.0, -165.0, -160.0, -155.0, -150.0, -145.0, -140.0)),
    Effect("laser_power", (40.0, 30.0, 20.0, 10.0, 0.0, -10.0, -20.0)),
    Effect("thermal_noise", (0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0), {"laser_power": 20.0}),
    Effect("phase_drift", (0.01, 0.03, 0.1, 0.2, 0.5, math.inf)),
    Effect("timing_skew", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
)
"""Every effect of a chip, each with its levels."""

NOT_SWEPT = {
    "mzi_loss": "loss that all light has alike is made up for by gain; with skip_loss it is swept",
    "crossing_loss": "the same",
    "splitter_loss": "the same",
    "coupling_loss": "the same",
    "modulator_loss": "the same",
    "local_oscillator": "acts through the noise that laser_power sweeps",
    "responsivity": "the same",
    "common_mode_rejection": "acts on rin, and needs laser_power and rin beside it",
}
"""Static and dynamic settings without a sweep of their own, and why."""


def level_lost(
    effect: Effect, levels: Sequence[float], right: Sequence[float], *, share: float, floor: float
) -> str:
    """Return the level of an effect at which less than a share of the inputs is right.

    Between two levels, the share lost is interpolated as a power of the level.

    Args:
        effect: The effect.
        levels: Levels that were measured, from harmless to harmful.
        right: Share of inputs received right at each.
        share: The share, such as 0.999.
        floor: Share of lost inputs below which none was seen: half of one.

    Returns:
        The level with two digits; with ``<`` or ``>`` where it lies beyond the measured ones.
    """
    rising = effect.levels[-1] > effect.levels[0]
    bad = next((i for i, value in enumerate(right) if value < share), None)
    if bad is None:
        return f"{'>' if rising else '<'}{levels[-1]:g}"
    if bad == 0:
        return f"{'<' if rising else '>'}{levels[0]:g}"
    before, after = (math.log(max(1 - right[i], floor)) for i in (bad - 1, bad))
    low, high = levels[bad - 1], levels[bad]
    part = (math.log(1 - share) - before) / (after - before)
    if math.isinf(high):
        return f">{low:g}"
    if effect.logarithmic and low > 0 and high > 0:
        return f"{low * (high / low) ** part:.2g}"
    return f"{low + (high - low) * part:.3g}"
