r"""Unit P with receivers behind it, and no ONN: the baseline of every ONN.

    servers --[unit P]--[detector]--[levels]--[digital sums, Q]--[transmitter]--[unit T]-- servers
                     noise     receiver noise                              noise    receiver noise

Each of the K averages has a detector of its own and a receiver that tells its N(4^g - 1) + 1 levels
apart. Electronics add the levels with their weights, carry, and apply Q: exact integer arithmetic.
The code goes back as PAM4 symbols of light. Both ways have the noise that a layer of an ONN has at
its inputs, and both receivers theirs; meshes, references and ReLUs there are none.
"""

# Shape suffixes: C chips, N servers, P inputs, K ONN inputs, M symbols sent back, L amplitudes.

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from optinc.onn.chip.detection import (
    detected_variance,
    normal,
    relative_noise,
    with_detector_noise,
)
from optinc.onn.chip.drawn import ChipsBehindServers
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.servers import Servers, symbol_levels
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.laser import intensity_noise
from optinc.photonics.parts.modulator import Modulator
from optinc.photonics.parts.units import power_of_loss
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario

PLAYED = (
    *("averaging", "detection", "seed", "symbol_rate", "bandwidth"),
    *("modulator_loss", "modulator_extinction", "gain_error", "level_error"),
    *("server_imbalance", "server_phase", "phase_drift", "timing_skew"),
    *("noise", "receiver_noise", "rin", "laser_power", "local_oscillator", "responsivity"),
    *("thermal_noise", "common_mode_rejection"),
)
"""Settings of a chip that direct receivers play; the others are those of meshes and ReLUs."""


class DirectReceivers(ChipsBehindServers):
    """Drawn chips of a switch that receives the averages directly; :meth:`draw` makes them.

    Args:
        settings: Parts and errors; :data:`PLAYED` are used.
        scenario: The switch.
        draws: Random numbers of the chips.
        sends_back: Whether the servers receive its symbols. The light of a switch below the top of
            a cascade goes to unit P of the next one instead, where its transmitters are servers.
    """

    gain_CK: Tensor
    sent_CML: Tensor
    full_scale_K: Tensor
    top_M: Tensor

    def __init__(
        self,
        settings: ChipSettings,
        scenario: Scenario,
        draws: Draws,
        *,
        sends_back: bool = True,
    ) -> None:
        super().__init__(settings, Servers(settings, scenario, draws), chips=draws.chips)
        self.sends_back = sends_back
        steps_K = torch.tensor(scenario.input_steps)
        full_scale_K = (torch.tensor(scenario.radices) - 1) / steps_K
        random_CK = draws.standard("gain_error", "receivers", (scenario.onn_inputs,))
        level_ML, top_M = symbol_levels(
            scenario.received_symbols, refinement=scenario.output_steps[-1]
        )
        random_CML = draws.standard("level_error", "return", level_ML.shape)
        modulator = Modulator(
            extinction=settings.modulator_extinction, level_error=settings.level_error
        )
        sent_CML = modulator.modulate(modulator.levels(random_CML, ideal=level_ML))
        # The homodyne detectors at the servers read one quadrature, others the modulus.
        sent_CML = sent_CML.real if settings.detection == "homodyne" else sent_CML.abs()
        for name, buffer in {
            "full_scale_K": full_scale_K,
            "gain_CK": 1 + settings.gain_error * random_CK,
            "sent_CML": sent_CML,
            "top_M": top_M,
        }.items():
            self.register_buffer(name, buffer.float())
        self._intensities = settings.averaging == "incoherent"
        extinction = settings.modulator_extinction
        self._dark = 0.0 if extinction is None else power_of_loss(extinction)
        self._variance_back = self._variance = detected_variance(settings)
        self._relative_back = self._relative = relative_noise(settings)
        if self._intensities:
            diodes = replace(settings, detection="direct", common_mode_rejection=None)
            floor, slope = detected_variance(diodes)
            # Currents of N diodes, of which each has all light of a server, enter one amplifier.
            self._variance = floor / scenario.servers**2, slope / scenario.servers
            self._relative = _noise_of_many(settings, lasers=scenario.servers)

    @classmethod
    def draw(
        cls,
        scenario: Scenario,
        settings: ChipSettings,
        *,
        chips: int = 1,
        first: int = 0,
        sends_back: bool = True,
    ) -> DirectReceivers:
        """Draw chips of a switch.

        Args:
            scenario: The switch, or one of a cascade.
            settings: Parts and errors; chip c is a function of (``settings.seed``, c) alone.
            chips: Number C of chips.
            first: Number c of the first one.
            sends_back: Whether the servers receive its symbols, see the class.
        """
        return cls(settings, scenario, Draws(settings.seed, chips, first), sends_back=sends_back)

    def play(self, averages: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`ChipsBehindServers.play`; the outputs are symbols back at the servers."""
        sums = self._decide(averages, generator)
        total = preprocessing.code_total(sums, self.scenario)
        symbols = outputs.outputs_of_total(total, self.scenario)
        if not self.sends_back:
            return symbols / outputs.steps_of(self.scenario, like=averages.real)
        return self._back(symbols, generator)

    def _decide(self, averages: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the sums S_k that receivers take averages for: int64 [C, P, K]."""
        # Fresh noise for every chip.
        light = averages.expand(self.chips, -1, -1)
        light = self._with_noise(light, self.full_scale_K, self._relative, generator)
        moduli = self.settings.detection == "direct" and not self._intensities
        signal = light.abs() if moduli else light.real
        if self.settings.laser_power is not None:
            signal = self._detected(signal, generator)
        if self._intensities:
            # Amplifiers subtract what dark modulators leave, and make up for the smaller swing.
            signal = (signal - self._dark * self.full_scale_K) / (1 - self._dark)
        signal = signal * self.gain_CK.unsqueeze(1)
        if self.settings.receiver_noise:
            sigma_K = self.settings.receiver_noise * self.full_scale_K
            signal = signal + sigma_K * normal(signal, generator)
        steps_K = torch.tensor(self.scenario.input_steps, device=signal.device)
        most_K = torch.tensor(self.scenario.radices, device=signal.device) - 1
        return torch.minimum((signal * steps_K).round().clamp(min=0), most_K).long()

    def _detected(self, signal: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add shot and thermal noise to averages [C, P, K]."""
        if not self._intensities:
            return with_detector_noise(
                signal,
                self.full_scale_K,
                self._variance,
                settings=self.settings,
                generator=generator,
            )
        floor, slope = self._variance
        share = (signal / self.full_scale_K).clamp(min=0)
        noise = (floor + slope * share).sqrt() * normal(signal, generator)
        return signal + self.full_scale_K * noise

    def _back(self, symbols: Tensor, generator: torch.Generator | None) -> Tensor:
        """Send symbols [C, P, M] in output steps to the servers: float32 [C, P, M]."""
        signal = self.sent_CML.gather(-1, symbols.mT).mT * self.top_M
        signal = self._with_noise(signal, self.top_M, self._relative_back, generator)
        if self.settings.laser_power is not None:
            signal = with_detector_noise(
                signal,
                self.top_M,
                self._variance_back,
                settings=self.settings,
                generator=generator,
            )
        if self._dark and self.settings.detection == "direct":
            share = (signal / self.top_M).square()
            signal = self.top_M * ((share - self._dark) / (1 - self._dark)).clamp(min=0).sqrt()
        if self.settings.receiver_noise:
            sigma_M = self.settings.receiver_noise * self.top_M
            signal = signal + sigma_M * normal(signal, generator)
        return signal

    def _with_noise(
        self,
        signal: Tensor,
        full_scale: Tensor,
        relative: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Add the noise of light: a share of full scale, and a share of the light itself."""
        sigma = self.settings.noise * full_scale
        if relative:
            each = (sigma.square() + relative**2 * signal.abs().square()).sqrt()
            return signal + each * normal(signal, generator)
        return signal + sigma * normal(signal, generator) if self.settings.noise else signal


def _noise_of_many(settings: ChipSettings, *, lasers: int) -> float:
    """Return the relative noise of the summed intensities of independent lasers, equally bright."""
    if settings.rin is None:
        return 0.0
    one = intensity_noise(settings.rin, bandwidth=settings.noise_bandwidth)
    return float(one / lasers**0.5)
