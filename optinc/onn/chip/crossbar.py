"""Static transfer of an ONN's layers as crossbars on drawn chips.

What differs from attenuator to attenuator is drawn: MZIs, trees of splitters and combiners, and of
fields the phase of every way. Mean losses are the same on all ways: gain and light make up for
them, also for crossings, whose number is known.
"""

# Shape suffixes: C chips, P inputs sent, m outputs, n inputs, p = n + 1 inputs with the reference
# beam, A attenuators, J trees of equal size, w ways of a tree.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optinc.onn.chip.draws import Draws
from optinc.onn.chip.layers import LayerTransfer
from optinc.onn.crossbar_settings import CrossbarLayer, CrossbarProgramme
from optinc.photonics.area import crossings
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.crossbar import AttenuatorErrors, settings_of, transmit, uneven_tree
from optinc.photonics.parts.phase_shifter import PhaseShifter, shift
from optinc.photonics.parts.splitter import Splitter
from optinc.photonics.parts.units import amplitude_of_loss, power_of_loss


class IntensityTransfer(nn.Module):
    """Transfer of a crossbar of intensities on drawn chips, from its modulators to its amplifiers.

    Args:
        weight_Cmn: Outputs for the intensities of the inputs.
        bias_Cm: Outputs for the reference beam.
        gain_Cm: Outputs for all light of a modulator at one detector, losses included.
        dark_m: What the amplifiers subtract, for modulators that leave an intensity of 1: the
            ideal outputs for it.

    Attributes:
        weight_Cmn, bias_Cm, gain_Cm, dark_m: The same in float32.
    """

    weight_Cmn: Tensor
    bias_Cm: Tensor
    gain_Cm: Tensor
    dark_m: Tensor

    def __init__(
        self, weight_Cmn: Tensor, bias_Cm: Tensor, gain_Cm: Tensor, dark_m: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("weight_Cmn", weight_Cmn.float().contiguous())
        self.register_buffer("bias_Cm", bias_Cm.float().contiguous())
        self.register_buffer("gain_Cm", gain_Cm.float().contiguous())
        self.register_buffer("dark_m", dark_m.float().contiguous())

    def currents(
        self, light_Pn: Tensor, *, chip: int, reference: Tensor, dark: float | Tensor
    ) -> Tensor:
        """Return the sums of currents of one chip, amplified, [P, m].

        Args:
            light_Pn: Intensities of the inputs.
            chip: Number of the chip.
            reference: Intensity of the reference beam, of its mean, broadcastable to [P, 1].
            dark: Intensity that dark modulators leave.
        """
        bias = self.bias_Cm[chip] * reference - dark * self.dark_m
        return bias + light_Pn @ self.weight_Cmn[chip].mT

    def lit(self, light_Pn: Tensor, *, chip: int) -> Tensor:
        """Return the light on all diodes of every output, [P, m], in the unit of the outputs.

        Both diodes count: shot noise does not cancel in a difference.
        """
        return self.bias_Cm[chip].abs() + light_Pn.clamp(min=0) @ self.weight_Cmn[chip].abs().mT


@dataclass(frozen=True)
class CrossbarBuilder:
    """Plays the parts of one crossbar with the errors of drawn chips.

    Attributes:
        settings: Parts and errors.
        draws: Random numbers of the chips.
        programme: Settings of all crossbars.
        index: 0-based layer.
    """

    settings: ChipSettings
    draws: Draws
    programme: CrossbarProgramme
    index: int

    @property
    def layer(self) -> CrossbarLayer:
        """Attenuators and gains."""
        return self.programme.layers[self.index]

    @property
    def intensities(self) -> bool:
        """Whether the intensity of light carries numbers, else its field."""
        return self.programme.detection == "direct"

    def build(self) -> LayerTransfer | IntensityTransfer:
        """Return the transfer of the layer."""
        layer = self.layer
        gain_Cm = self._errors_of("gain_error", "gain", (layer.outputs,), self.settings.gain_error)
        gain_Cm = (layer.gain_m * (1 + gain_Cm)).expand(self.draws.chips, -1)
        passed_CA = self._played() * layer.shares()
        transfer_Cmp = torch.zeros(
            self.draws.chips, layer.outputs, layer.inputs + 1, dtype=passed_CA.dtype
        )
        transfer_Cmp[:, layer.output_A, layer.input_A] = passed_CA
        transfer_Cmp = gain_Cm.unsqueeze(-1) * transfer_Cmp
        weight_Cmn, bias_Cm = transfer_Cmp[..., :-1], transfer_Cmp[..., -1]
        lost_Cm = gain_Cm / self._arriving_m()
        if not self.intensities:
            if self._one_by_one():
                weight_Cmn = torch.diagonal(weight_Cmn, dim1=1, dim2=2)
            return LayerTransfer(weight=weight_Cmn, bias_Cm=bias_Cm, gain_Cm=lost_Cm)
        # Modulators reach from dark to full scale; more gain makes up for the smaller swing.
        swing = 1 - modulators_leave(self.settings)
        return IntensityTransfer(
            weight_Cmn=weight_Cmn / swing,
            bias_Cm=bias_Cm,
            gain_Cm=lost_Cm / swing,
            dark_m=layer.transfer_mp[:, :-1].sum(1) / swing,
        )

    def _one_by_one(self) -> bool:
        """Whether every output has one input, the one of its number."""
        layer = self.layer
        weights = layer.input_A < layer.inputs
        return layer.outputs == layer.inputs and torch.equal(
            layer.input_A[weights], layer.output_A[weights]
        )

    def _played(self) -> Tensor:
        """Return what every attenuator passes with its trees, [C, A], complex of fields."""
        layer, settings = self.layer, self.settings
        theta_A = settings_of(layer.passed_A.abs(), intensities=self.intensities)
        field_CA = transmit(theta_A, self._errors(), shifters=settings.shifters) / self._open
        field_CA = field_CA * self._splitters()
        relative_CA = 1 + self._relative_errors()
        sign_A = torch.where(layer.passed_A < 0, -1.0, 1.0).double()
        if self.intensities:
            # The attenuator's relative error is one of its amplitude.
            return sign_A * (field_CA.abs() * relative_CA[0]).square() * relative_CA[1]
        field_CA = field_CA * self._trees("combiners", layer.output_A) * relative_CA.prod(0)
        shifter = PhaseShifter.of(settings)
        random_CA = self.draws.standard("phase_error", self._place("ways"), sign_A.shape)
        return shift(field_CA, shifter.played(torch.arccos(sign_A), random_CA))

    def _relative_errors(self) -> Tensor:
        """Return relative errors of attenuators, and of the biases alone, [2, C, A]."""
        layer, settings, count = self.layer, self.settings, (len(self.layer.input_A),)
        each = self._errors_of("attenuator_error", "attenuators", count, settings.attenuator_error)
        bias = self._errors_of("bias_error", "bias", (layer.outputs,), settings.bias_error)
        bias = bias[:, layer.output_A] * (layer.input_A == layer.inputs)
        return torch.stack([part.expand(self.draws.chips, -1) for part in (each, bias)])

    def _errors(self) -> AttenuatorErrors:
        """Draw the errors of the attenuators."""
        settings, place = self.settings, self._place("attenuators")
        arms = (len(self.layer.input_A), 2)
        couplers = self.draws.errors("coupler_error", place, arms, sigma=settings.coupler_error)
        if settings.coupler_common_error:
            zero = torch.zeros(1, *arms, dtype=torch.float64)
            couplers = (zero if couplers is None else couplers) + settings.coupler_common_error
        spread = self.draws.errors("mzi_loss_spread", place, arms, sigma=settings.mzi_loss_spread)
        if spread is None and settings.mzi_loss:
            spread = torch.zeros(1, *arms, dtype=torch.float64)
        return AttenuatorErrors(
            couplers_CA2=couplers,
            arms_CA2=self.draws.errors("phase_error", place, arms, sigma=settings.phase_error),
            loss_CA2=None if spread is None else settings.mzi_loss + spread,
            extinction=settings.extinction,
            phase_bits=settings.phase_bits,
            crosstalk=settings.crosstalk,
        )

    @property
    def _open(self) -> float:
        """Mean amplitude that an open attenuator passes; finite extinction takes some of it."""
        extinction = self.settings.extinction
        dark = 0.0 if extinction is None else amplitude_of_loss(extinction)
        return amplitude_of_loss(self.settings.mzi_loss) / (1 + dark)

    def _splitters(self) -> Tensor:
        """Return what uneven splitters multiply amplitudes by, [C or 1, A]."""
        layer, sigma = self.layer, self.settings.splitter_imbalance
        of_bias = layer.input_A == layer.inputs
        count = int(of_bias.sum())
        if not sigma or count < 2:
            return self._trees("splitters", layer.input_A)
        relative_CA = self._trees("splitters", layer.input_A[~of_bias])
        random = self.draws.standard("splitter_imbalance", self._place("reference"), (count - 1,))
        beam = layer.beam_m[layer.output_A[of_bias]]
        power = beam if self.intensities else beam.square()
        reference_CA = uneven_tree(power, 10.0 ** (sigma * random / 10))
        return torch.cat([relative_CA.expand(self.draws.chips, -1), reference_CA], dim=1)

    def _trees(self, name: str, root_A: Tensor) -> Tensor:
        """Return what uneven trees multiply amplitudes by, [C or 1, A].

        Args:
            name: ``splitters`` or ``combiners``.
            root_A: Input or output to which each attenuator is joined.
        """
        sigma = self.settings.splitter_imbalance
        relative_CA = torch.ones(1, len(root_A), dtype=torch.float64)
        if not sigma:
            return relative_CA
        relative_CA = relative_CA.repeat(self.draws.chips, 1)
        ways_A = root_A.bincount()[root_A]
        for ways in sorted(set(ways_A.tolist()) - {1}):
            # Attenuators of trees of this size, tree by tree.
            of_size = (ways_A == ways).nonzero().squeeze(1)
            ordered = of_size[root_A[of_size].sort(stable=True).indices]
            random_CJs = self.draws.standard(
                "splitter_imbalance",
                self._place(f"{name}{ways}"),
                (len(ordered) // ways, ways - 1),
            )
            share_CJw = ways**0.5 * Splitter(ways=ways, imbalance=sigma).amplitudes(random_CJs)
            relative_CA[:, ordered] = share_CJw.flatten(1)
        return relative_CA

    def _arriving_m(self) -> Tensor:
        """Return what arrives at the detectors through one open attenuator, float64 [m].

        Of the light of a modulator, on average over the inputs of the layer: amplitude of fields,
        else intensity.
        """
        layer, settings = self.layer, self.settings
        lost = settings.mzi_loss + settings.splitter_loss * tree_stages(
            layer, intensities=self.intensities
        )
        share = divided_light(layer)
        if self.intensities:
            return torch.full_like(
                layer.gain_m, share * power_of_loss(lost) * (self._open_extinction**2)
            )
        lost += settings.crossing_loss * crossings(layer.outputs, layer.inputs)
        amplitude = math.sqrt(share) * amplitude_of_loss(lost) * self._open_extinction
        return amplitude / layer.fan_in_m.clamp(min=1).double().sqrt()

    @property
    def _open_extinction(self) -> float:
        """Share of the mean amplitude of an open attenuator that finite extinction leaves."""
        return self._open / amplitude_of_loss(self.settings.mzi_loss)

    def _errors_of(self, effect: str, name: str, shape: Sequence[int], sigma: float) -> Tensor:
        """Draw normal errors float64 [C, *shape], or zeros [1, *shape] where sigma is 0."""
        drawn = self.draws.errors(effect, self._place(name), shape, sigma=sigma)
        return torch.zeros(1, *shape, dtype=torch.float64) if drawn is None else drawn

    def _place(self, name: str) -> str:
        return f"layers.{self.index}.crossbar.{name}"


def draw_crossbars(
    settings: ChipSettings, draws: Draws, programme: CrossbarProgramme
) -> list[LayerTransfer | IntensityTransfer]:
    """Return the transfer of every layer of drawn chips.

    Args:
        settings: Parts and errors.
        draws: Random numbers of the chips.
        programme: Settings of all crossbars.
    """
    return [
        CrossbarBuilder(settings, draws, programme, index).build()
        for index in range(len(programme.layers))
    ]


def carries_intensities(settings: ChipSettings) -> bool:
    """Whether the layers of a chip carry numbers as intensities, else as fields."""
    return settings.hardware == "crossbar" and settings.detection == "direct"


def modulators_leave(settings: ChipSettings) -> float:
    """Return the intensity that a dark modulator leaves, of full scale."""
    extinction = settings.modulator_extinction
    return 0.0 if extinction is None else power_of_loss(extinction)


def sent_intensities(signal: Tensor, *, dark: float, full_scale: float | Tensor) -> Tensor:
    """Return the intensities that modulators send for signals from 0 to full scale.

    Light has no negative intensity: what a ReLU leaks is cut where the modulator is dark.

    Args:
        signal: Real signals, any shape.
        dark: Intensity that a dark modulator leaves, of full scale.
        full_scale: Full scale of the signals.
    """
    return (dark * full_scale + (1 - dark) * signal).clamp(min=0)


def divided_light(layer: CrossbarLayer) -> float:
    """Return the power at an attenuator, of that on a modulator, on average over the inputs."""
    fan_out_n = layer.fan_out_p[:-1]
    weights = int(fan_out_n.sum())
    # With a splitter for each input, the layer's shares() already divide the light.
    if layer.shared or not weights:
        return 1.0
    return int((fan_out_n > 0).sum()) / weights


def tree_stages(layer: CrossbarLayer, *, intensities: bool) -> int:
    """Return the 1:2 stages on the longest way of an input: splitters, and of fields combiners."""
    stages = Splitter(ways=max(1, int(layer.fan_out_p[:-1].max()))).stages
    if intensities:
        return stages
    return stages + Splitter(ways=max(1, int(layer.fan_in_m.max()))).stages
