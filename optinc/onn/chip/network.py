r"""An ONN on drawn chips: light in every layer, electronics between layers.

    servers --[unit P]--> layer 1 --> ... --> last layer --> receivers

    layer:  --[modulator]--[meshes, attenuators, reference]--[detector]--[gain]--[ReLU]--
                 noise                complex field           noise          or comparator

The field of a layer is complex until it is detected. Homodyne detection keeps its real part, direct
detection its modulus, of which the electronics take no sign. Losses and gains that are equal for
all outputs cancel: the gain is set for them. Noise of light is a share of the light, also where a
reference is subtracted from it (see :func:`optinc.onn.chip.scales.uncentred_scale`).
"""

# Shape suffixes: C chips, N servers, P inputs, K ONN inputs, M symbols, m outputs, n inputs.

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.comparators import comparators_of
from optinc.onn.chip.crossbar import (
    IntensityTransfer,
    carries_intensities,
    draw_crossbars,
    modulators_leave,
    sent_intensities,
)
from optinc.onn.chip.detection import (
    detected_variance,
    normal,
    relative_noise,
    with_detector_noise,
)
from optinc.onn.chip.drawn import ChipsBehindServers
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.layers import LayerTransfer, draw_layer
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.chip.servers import Servers
from optinc.onn.crossbar_settings import CrossbarProgramme, map_crossbar
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.network import OpticalNetwork
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.electronics import ReLU
from optinc.photonics.parts.modulator import Modulator
from optinc.signal import pam4


class ChipNetwork(ChipsBehindServers):
    """Drawn chips of one ONN; :meth:`draw` makes them.

    Args:
        network: The ideal network, for its scales.
        settings: Parts and errors.
        servers: Transmitters of the servers and unit P.
        layers: Transfer of every layer.
        chips: Number C of chips.
        scales: Full scale of every layer's inputs, numbers or scalar tensors, which noise is a
            share of; None looks for them in all inputs.

    """

    def __init__(
        self,
        network: OpticalNetwork,
        settings: ChipSettings,
        servers: Servers,
        layers: Sequence[LayerTransfer | IntensityTransfer],
        *,
        chips: int,
        scales: Sequence[float | Tensor] | None = None,
    ) -> None:
        super().__init__(settings, servers, chips=chips)
        self.layers = nn.ModuleList(layers)
        self._input = network.input_scale, network.input_offset
        self._output = network.output_scale, network.output_offset
        self._scales: list[float | Tensor] = list(
            uncentred_scales(network, self.scenario) if scales is None else scales
        )
        self._intensities = carries_intensities(settings)
        if self._intensities:
            # Light of the averages alone: the offset is one of the biases.
            self._scales[0] = abs(network.input_scale) * self.scenario.full_scale
        self._dark = modulators_leave(settings)
        self._relu = ReLU.of(settings)
        digital = settings.stages == "digital"
        self._comparators = comparators_of(network) if digital else {}
        self._modulator = Modulator(extinction=settings.modulator_extinction)
        self._detected_variance = detected_variance(settings)
        self._relative = relative_noise(settings, intensities=self._intensities)

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        onn: ONNArtifact,
        settings: ChipSettings,
        *,
        chips: int = 1,
        first: int = 0,
        programme: MeshProgramme | CrossbarProgramme | None = None,
        scales: Sequence[float | Tensor] | None = None,
    ) -> ChipNetwork:
        """Draw chips of an ONN.

        A chip of ``robust`` takes 13 ms of one core, one of ``dense`` (meshes of 256 modes) 0.4 s;
        meshes grow with the cube of their width. Memory is that of the transfer matrices, 8 bytes a
        weight and chip.

        Args:
            onn: The ONN.
            settings: Parts and errors; chip c is a function of (``settings.seed``, c) alone.
            chips: Number C of chips.
            first: Number of the first chip.
            programme: Settings of the meshes or crossbars, of this ONN, the same for all chips, or
                of meshes those of each; None maps it.
            scales: Full scale of every layer's inputs; None looks for them in all inputs.

        Raises:
            ConfigurationError: If there is no chip, or the settings of the meshes are for other
                interferometers, other biases, other chips or another ONN.
        """
        if chips < 1:
            raise ConfigurationError(f"the number of chips must be at least 1, got {chips}")
        if programme is None:
            programme = _mapped(onn, settings)
        _check_programme(programme, onn, settings)
        draws = Draws(settings.seed, chips, first)
        layers: list[LayerTransfer | IntensityTransfer]
        if isinstance(programme, CrossbarProgramme):
            layers = draw_crossbars(settings, draws, programme)
        else:
            _check_chips(programme, settings, last=first + chips)
            layers = [
                draw_layer(settings, draws, programme, index)
                for index in range(len(programme.layers))
            ]
        servers = Servers(settings, onn.card.scenario, draws)
        return cls(onn.network, settings, servers, layers, chips=chips, scales=scales)

    def play(self, averages: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`ChipsBehindServers.play`; differentiable in the transfers of the layers."""
        # One chip at a time keeps its signals in a CPU's cache, and its matrices are large enough.
        return torch.stack(
            [
                self._play_chip(averages[c if len(averages) > 1 else 0], c, generator)
                for c in range(self.chips)
            ]
        )

    def _play_chip(self, averages: Tensor, chip: int, generator: torch.Generator | None) -> Tensor:
        """Return the outputs of one chip, float32 [P, M], for averages, real or complex [P, K]."""
        signal, light = self._entering(averages)
        following = 0
        for i, layer in enumerate(self.layers):
            if i < following:
                continue  # left out by comparators
            if i:
                signal, light = self._modulated(signal, i)
            signal = self._with_noise(signal, light, i, generator)
            if self._intensities:
                currents = cast("IntensityTransfer", layer)
                signal = self._detected_currents(currents, signal, i, chip, generator)
            else:
                transfer = cast("LayerTransfer", layer)
                signal = self._detected(transfer, signal, i, chip, generator)
            if i in self._comparators:
                signal = self._decided(signal, i, generator)
                following = self._comparators[i].following
        scale, offset = self._output
        received = signal * scale + offset
        if self.settings.receiver_noise:
            sigma = self.settings.receiver_noise * (pam4.AMPLITUDES - 1)
            received = received + sigma * normal(received, generator)
        return received

    def _entering(self, averages: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the amplitudes that enter layer 1, or intensities, and what lasers send for them.

        Intensities are modulated anew, behind detectors at unit P, homodyne ones of fields.
        """
        scale, offset = self._input
        if self._intensities:
            return self._sent(averages.real * abs(scale), 0)
        beams = averages * scale
        light = beams.abs().square() + offset**2 if self._relative else None
        return beams + offset, light

    def _modulated(self, signal: Tensor, i: int) -> tuple[Tensor, Tensor | None]:
        """Return the amplitudes or intensities behind ReLU and modulators, see _entering."""
        full_scale = self._scales[i]
        if not self._comparators:
            signal = self._relu.rectify(signal, full_scale=full_scale)
        if self._intensities:
            return self._sent(signal, i)
        light = signal.square() if self._relative else None
        if self.settings.modulator_extinction is not None:
            signal = self._modulator.modulate(signal / full_scale) * full_scale
        return signal, light

    def _decided(self, signal: Tensor, i: int, generator: torch.Generator | None) -> Tensor:
        """Return the amplitudes that comparators make of the outputs of layer i, [P, m]."""
        sigma = self.settings.receiver_noise * self._scales[i + 1]
        noisy = signal + sigma * normal(signal, generator) if sigma else signal
        return self._comparators[i].decide(noisy)

    def _sent(self, signal: Tensor, i: int) -> tuple[Tensor, Tensor | None]:
        """Return the intensities that modulators send, and their squares, see _entering."""
        sent = sent_intensities(signal, dark=self._dark, full_scale=self._scales[i])
        return sent, sent.square() if self._relative else None

    def _with_noise(
        self, signal: Tensor, light: Tensor | None, i: int, generator: torch.Generator | None
    ) -> Tensor:
        """Add the noise of a layer's inputs.

        Args:
            signal: Amplitudes of the inputs, real or complex [P, n].
            light: Sum of the squares of what the lasers send for them, [P, n]; None without RIN.
            i: Layer, from 0.
            generator: Random generator.
        """
        sigma = self.settings.noise * self._scales[i]
        if light is not None:
            each = (sigma**2 + self._relative**2 * light).sqrt()
            return signal + each * normal(signal, generator)
        return signal + sigma * normal(signal, generator) if sigma else signal

    def _detected(
        self,
        layer: LayerTransfer,
        signal: Tensor,
        i: int,
        chip: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the detected and amplified outputs of a layer, float32 [P, m]."""
        weight, bias = layer.weight[chip], layer.bias_Cm[chip]
        homodyne = self.settings.detection == "homodyne"
        if self._relative:
            # One reference beam: its intensity is the same at all outputs.
            bias = bias * (1 + self._relative * normal(signal[:, :1].real, generator))
        if homodyne and not signal.is_complex():
            weight, bias = weight.real, bias.real
        elif not signal.is_complex():
            signal = signal.to(weight.dtype)
        field = torch.addcmul(bias, signal, weight) if layer.diagonal else bias + signal @ weight.mT
        detected = field.real if homodyne else field.abs()
        if self.settings.laser_power is None:
            return detected
        return with_detector_noise(
            detected,
            layer.gain_Cm[chip] * self._scales[i],
            self._detected_variance,
            settings=self.settings,
            generator=generator,
        )

    def _detected_currents(
        self,
        layer: IntensityTransfer,
        light: Tensor,
        i: int,
        chip: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the amplified sums of currents of a layer's photodiodes, float32 [P, m]."""
        reference = torch.ones_like(light[:, :1])
        if self._relative:
            reference = reference + self._relative * normal(reference, generator)
        dark = self._dark * self._scales[i]
        detected = layer.currents(light, chip=chip, reference=reference, dark=dark)
        if self.settings.laser_power is None:
            return detected
        floor, slope = self._detected_variance
        unit_m = layer.gain_Cm[chip] * self._scales[i]
        lit = layer.lit(light, chip=chip) / unit_m
        return detected + unit_m * (floor + slope * lit).sqrt() * normal(detected, generator)


def _mapped(onn: ONNArtifact, settings: ChipSettings) -> MeshProgramme | CrossbarProgramme:
    """Map an ONN to the hardware of a chip."""
    if settings.hardware == "crossbar":
        return map_crossbar(onn, detection=settings.detection)
    return map_onn(onn, shifters=settings.shifters, bias=settings.bias)


def _check_programme(
    programme: MeshProgramme | CrossbarProgramme, onn: ONNArtifact, settings: ChipSettings
) -> None:
    """Refuse settings of meshes or crossbars that belong to another chip.

    Raises:
        ConfigurationError: Names the setting and the remedy.
    """
    crossbar = isinstance(programme, CrossbarProgramme)
    found = "crossbar" if crossbar else "mesh"
    if settings.hardware != found:
        raise ConfigurationError(
            f"optinc.chip.hardware={settings.hardware}, but the settings are those of a {found}: "
            f"map the ONN with hardware={settings.hardware}"
        )
    if programme.card != onn.card:
        raise ConfigurationError("the settings of the meshes belong to another ONN than the chip's")
    for name in ("detection",) if crossbar else ("shifters", "bias"):
        expected, found = getattr(settings, name), getattr(programme, name)
        if expected != found:
            raise ConfigurationError(
                f"optinc.chip.{name}={expected}, but the settings of the meshes are for {found}: "
                f"map the ONN with {name}={expected}"
            )


def _check_chips(programme: MeshProgramme, settings: ChipSettings, *, last: int) -> None:
    """Refuse settings of meshes that were made for other chips, or for fewer.

    Raises:
        ConfigurationError: Names the setting and the remedy.
    """
    if programme.chips is None:
        return
    if programme.seed != settings.seed:
        raise ConfigurationError(
            f"optinc.chip.seed={settings.seed}, but the settings of the meshes are for the chips "
            f"of seed {programme.seed}: set optinc.chip.seed={programme.seed}, or calibrate anew"
        )
    if last > programme.chips:
        raise ConfigurationError(
            f"{last} chips are drawn, but the settings of the meshes are those of {programme.chips}"
        )
