"""Drawn chips that can only be set and measured, for a blind calibration.

A chip is set and measured, nothing else. Its errors stay in here.

    known light --[modulators]--[layer, as set]--[detectors]--[gain]--> mean of many symbols
                      noise                          noise

The light of one input at a time is sent at full scale, and none: the difference is a column of the
layer's weights, what is left without light is its bias. A reading is the mean of many symbols; a
symbol has the noise of the chip, see :class:`ProbedLayer`. Layers end in detectors, so each is
measured by itself, and all of them at the same time.
"""

# Shape suffixes: C chips, D phases, m outputs, n inputs, q = n + 1 columns: weights, then the bias.

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.chip.calibration.jacobian import answers
from optinc.onn.chip.detection import detected_variance, relative_noise
from optinc.onn.chip.errors import LayerErrors
from optinc.onn.chip.layers import play
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.phase_shifter import FULL_TURN

PHASE_SHIFT = math.pi / 4
"""Shift in rad to both sides by which the answer to a mesh's phase is measured."""

ATTENUATOR_SHIFT = math.pi / 64
"""The same of an attenuator, whose amplitude should not change its sign on the way."""

SHIFT_BITS = 6
"""Resolution of DACs that make both shifts exactly."""

ATTENUATOR_PATIENCE = 16
"""Symbols of a reading at a shifted attenuator, in those of one at a shifted phase."""


@dataclass
class Count:
    """Number of measurements on each chip.

    Attributes:
        settings: Times that settings were loaded and light was measured.
        readings: Means read at one detector.
        symbols: Symbols of light sent.
    """

    settings: int = 0
    readings: int = 0
    symbols: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.settings + other.settings,
            self.readings + other.readings,
            self.symbols + other.symbols,
        )


class Probe(Protocol):
    """A layer on a chip that can be set and measured, and nothing else."""

    @abstractmethod
    def set(self, phases: Mapping[str, Tensor]) -> None:
        """Load settings: phases in rad by name, [C or 1, ...]."""

    @abstractmethod
    def measure(self, *, symbols: int) -> Tensor:
        """Return weights and biases, [C, m, q], each read from the mean of so many symbols."""

    @abstractmethod
    def measure_answers(self, *, symbols: int) -> dict[str, Tensor]:
        """Return how weights and biases answer to every phase, [C, D, m, q] by name."""


class ProbedLayer:
    """One layer of C drawn chips that can be set and measured.

    Inputs have ``settings.noise`` of their full scale, which is what their modulators send at most.
    Detectors have ``settings.receiver_noise`` of what they would detect if the light of one input
    arrived undiminished, and what lasers and photodetectors add where their power is given.

    Args:
        layer: Form, size and gain.
        errors: Errors of the chips; they are kept from the caller.
        settings: Parts and noise.
        scale: Full scale of the inputs, in the amplitudes of the network.
        generator: Random generator of the noise.

    Attributes:
        layer: Form, size and gain.
        count: What was measured on each chip.

    Raises:
        ConfigurationError: If the chip has detectors without sign.
    """

    def __init__(
        self,
        layer: LayerDescription,
        errors: LayerErrors,
        settings: ChipSettings,
        *,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        if settings.detection != "homodyne":
            raise ConfigurationError(
                "a blind calibration reads signed amplitudes: set optinc.chip.detection=homodyne, "
                f"got optinc.chip.detection={settings.detection}"
            )
        self.layer, self.count = layer, Count()
        self.__errors = errors
        self._settings, self._scale, self._generator = settings, scale, generator
        self._phases: dict[str, Tensor] = {}

    def set(self, phases: Mapping[str, Tensor]) -> None:
        """Load settings: phases in rad by name, [C or 1, ...]; the DACs round them."""
        self._phases = on_grid(phases, self.layer, self._settings)

    def measure(self, *, symbols: int) -> Tensor:
        """Measure weights and biases as set.

        Args:
            symbols: Symbols of each reading.

        Returns:
            float64 [C, m, q].
        """
        self._counted(settings=1, symbols=symbols)
        true = self._played(self._phases)
        light = self._noise_of_columns(true) / math.sqrt(symbols)
        return true + light * self._normal(true)

    def measure_answers(self, *, symbols: int) -> dict[str, Tensor]:
        """Measure how weights and biases answer to every phase, one after another, both sides.

        A field is a sine of every phase of its own, so the difference of two readings at -x and +x
        is the derivative times a known number, however large x is.

        Args:
            symbols: Symbols of each reading.

        Returns:
            float32 [C, D, m, q] by the name of the setting. An attenuator that is nearly dark has
            no answer: it stays as it is.
        """
        true = self._played(self._phases)
        noise = self._noise_of_columns(true) * math.sqrt(2)
        found = {}
        for name, exact in self._slopes().items():
            patience = ATTENUATOR_PATIENCE if name in self.layer.attenuator_shapes else 1
            each = noise / (self._divisor(name) * math.sqrt(patience * symbols))
            slope = exact.float() + each.unsqueeze(1).float() * self._normal(exact)
            if name in self.layer.attenuator_shapes:
                lit = self._phases[name].abs().flatten(1) >= ATTENUATOR_SHIFT
                slope *= lit[..., None, None]
            found[name] = slope
            self._counted(settings=2 * slope.shape[1], symbols=patience * symbols)
        return found

    def _counted(self, *, settings: int, symbols: int) -> None:
        sent = settings * (self.layer.inputs + 1)
        self.count += Count(settings, sent * self.layer.outputs, sent * symbols)

    def _played(self, phases: Mapping[str, Tensor]) -> Tensor:
        """Return the weights and biases that detectors see, float64 [C, m, q]."""
        played = play(self.layer, phases, self.__errors, shifters=self._settings.shifters)
        weight = played.weight.real
        weight = torch.diag_embed(weight) if self.layer.bare else weight
        self._arriving_Cm1 = played.gain_Cm.unsqueeze(-1)
        return torch.cat([weight, played.bias_Cm.real.unsqueeze(-1)], dim=-1)

    def _slopes(self) -> dict[str, Tensor]:
        """Return the differences of two readings, divided, without noise: [C, D, m, q] by name."""
        bits = self._settings.phase_bits
        if self._settings.crosstalk or (bits is not None and bits < SHIFT_BITS):
            return self._played_slopes()
        # What the differences equal, without playing every setting by itself: see the tests.
        one = torch.eye(self.layer.inputs + 1, dtype=torch.float64)
        found = answers(
            self.layer, self._own(), self.__errors, one, shifters=self._settings.shifters
        )
        return {name: found.by_phase[name] for name in self.layer.settings}

    def _played_slopes(self) -> dict[str, Tensor]:
        """Play every phase on both sides."""
        found = {}
        for name in self.layer.settings:
            values = self._phases[name].expand(self.__errors.chips, *self._phases[name].shape[1:])
            slopes = []
            for d in range(values[0].numel()):
                step = torch.zeros(values[0].numel(), dtype=values.dtype)
                step[d] = self._shift(name)
                step = step.reshape(values.shape[1:])
                later, before = (
                    self._played({**self._phases, name: values + sign * step}) for sign in (1, -1)
                )
                slopes.append((later - before) / self._divisor(name))
            found[name] = torch.stack(slopes, dim=1)
        return found

    def _shift(self, name: str) -> float:
        return ATTENUATOR_SHIFT if name in self.layer.attenuator_shapes else PHASE_SHIFT

    def _divisor(self, name: str) -> float:
        """Return the difference of two readings for a derivative of 1."""
        if name.endswith(".theta") and self._settings.shifters == "one_arm":
            return math.sin(2 * PHASE_SHIFT)
        return 2 * math.sin(self._shift(name))

    def _own(self) -> dict[str, Tensor]:
        """Return the phases of every chip, [C, ...] by name."""
        return {
            name: value.expand(self.__errors.chips, *value.shape[1:])
            for name, value in self._phases.items()
        }

    def _noise_of_columns(self, true_Cmq: Tensor) -> Tensor:
        """Return the sigma of one symbol's weights and biases, [C, m, q]."""
        settings, scale = self._settings, self._scale
        weight, bias = true_Cmq[..., :-1], true_Cmq[..., -1:]
        inputs = (settings.noise * scale) ** 2 * weight.square().sum(-1, keepdim=True)
        relative = relative_noise(settings) ** 2
        unit = self.layer.gain * scale
        floor, slope = detected_variance(settings)
        receiver = (settings.receiver_noise * unit) ** 2
        dark = inputs + relative * bias.square() + receiver
        # Their power is given: what the layer loses, its detectors have more noise for.
        dark = dark + floor * (self._arriving_Cm1 * scale) ** 2 + slope * bias.square()
        sent = dark + (relative + slope) * (weight * scale).square()
        # A weight is the difference of two readings, in full scales of its input.
        return torch.cat([(sent + dark).sqrt() / scale, dark.sqrt()], dim=-1)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator)


def on_grid(
    phases: Mapping[str, Tensor], layer: LayerDescription, settings: ChipSettings
) -> dict[str, Tensor]:
    """Return the phases, [C, ...] by name, that the DACs of a chip make of those asked for."""
    steps = grid(layer, settings)
    if steps is None:
        return dict(phases)
    return {name: torch.round(value / steps[name]) * steps[name] for name, value in phases.items()}


def grid(layer: LayerDescription, settings: ChipSettings) -> dict[str, float] | None:
    """Return the steps in rad of the settings of a layer by name; None if they are continuous."""
    if settings.phase_bits is None:
        return None
    step = FULL_TURN / (1 << settings.phase_bits)

    def halved(name: str) -> bool:
        # The shifter on one arm turns by 2 theta.
        one_arm = name.endswith(".theta") and settings.shifters == "one_arm"
        return one_arm or name in layer.attenuator_shapes

    return {name: step / 2 if halved(name) else step for name in layer.settings}


def quiet(settings: ChipSettings) -> ChipSettings:
    """Return a chip of the same design without errors or noise."""
    return ChipSettings(shifters=settings.shifters, bias=settings.bias)
