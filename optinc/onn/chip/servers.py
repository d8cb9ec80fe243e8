"""Unit P on drawn chips: the servers' transmitters, their light, and its average."""

# Shape suffixes: C chips, N servers, P values, M symbols, K ONN inputs, L amplitudes: the 4 of
# PAM4, and 4 N^(l-1) of a last symbol with a decimal part, at level l of a cascade.

from __future__ import annotations

import torch
from torch import Tensor, nn

from optinc.onn.chip.draws import Draws
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.averaging import intensity_field, residual_phases, skewed
from optinc.photonics.parts.modulator import Modulator
from optinc.photonics.parts.phase_shifter import shift
from optinc.signal import pam4, preprocessing
from optinc.signal.scenario import Scenario

EFFECTS = ("level_error", "server_imbalance", "timing_skew")
"""Settings by which servers differ from each other."""

PHASES = ("server_phase", "phase_drift")
"""The same, for fields only: intensities have no phase."""

TOP = pam4.AMPLITUDES - 1
"""Largest PAM4 amplitude."""


def symbol_levels(symbols: int, *, refinement: int) -> tuple[Tensor, Tensor]:
    """Return the amplitudes that symbols take, and the largest of each in PAM4 amplitudes.

    Args:
        symbols: Number M of symbols.
        refinement: Steps of the last symbol per PAM4 amplitude; 1 where it has no decimal part.

    Returns:
        Amplitudes of full scale, float64 [M, 4 * refinement], which symbols without a decimal part
        use from 0 to 3; and full scales [M].
    """
    index_L = torch.arange(pam4.AMPLITUDES * refinement, dtype=torch.float64)
    level_ML = (index_L / TOP).clamp(max=1.0).repeat(symbols, 1)
    level_ML[-1] = index_L / index_L[-1]
    top_M = torch.full((symbols,), float(TOP), dtype=torch.float64)
    top_M[-1] = index_L[-1] / refinement
    return level_ML, top_M


class Servers(nn.Module):
    """Transmitters of the servers of drawn chips, and the average of their light.

    With coherent averaging a server's field arrives with its amplitude and phase, and the ONN gets
    the mean field. With incoherent averaging the levels are sent as intensities, detected, added
    as currents, and modulated anew: phases do not matter, amplitudes count twice. This conversion
    is ideal here; its noise is ``noise`` on the inputs of layer 1.

    Args:
        settings: Parts and errors.
        scenario: The switch; at higher levels of a cascade its servers are the switches below, of
            which the last symbol has a decimal part.
        draws: Random numbers of the chips.
    """

    field_CNML: Tensor
    delay_CN: Tensor
    top_M: Tensor

    def __init__(self, settings: ChipSettings, scenario: Scenario, draws: Draws) -> None:
        super().__init__()
        self.settings, self.scenario = settings, scenario
        level_ML, top_M = symbol_levels(scenario.symbols, refinement=scenario.refinement)
        shape = (scenario.servers, *level_ML.shape)
        # The mean loss of the modulators is made up for by the lasers.
        modulator = Modulator(
            extinction=settings.modulator_extinction, level_error=settings.level_error
        )
        random_CNML = draws.standard("level_error", "servers", shape)
        levels_CNML = modulator.levels(random_CNML, ideal=level_ML)
        if settings.averaging == "incoherent":
            levels_CNML = intensity_field(levels_CNML.clamp(min=0.0))
        field_CNML = modulator.modulate(levels_CNML)
        one = (scenario.servers, 1, 1)
        arriving = draws.standard("server_imbalance", "servers", one)
        phase = draws.standard("server_phase", "servers", one)
        field_CNML = field_CNML * (1 + settings.server_imbalance * arriving)
        field_CNML = shift(field_CNML, residual_phases(phase, sigma=settings.server_phase))
        delay_CN = settings.timing_skew * draws.standard("timing_skew", "servers", one[:1])
        self.register_buffer("field_CNML", field_CNML.to(torch.complex64))
        self.register_buffer("delay_CN", delay_CN.clamp(-1.0, 1.0).float())
        self.register_buffer("top_M", top_M.float())

    @property
    def individual(self) -> bool:
        """Whether averages alone do not decide what the ONN receives."""
        settings = self.settings
        coherent = settings.averaging == "coherent"
        effects = EFFECTS + PHASES if coherent else EFFECTS
        differ = any(getattr(settings, name) for name in effects)
        return differ or settings.modulator_extinction is not None

    @property
    def dynamic(self) -> bool:
        """Whether light of the same codes differs from symbol to symbol."""
        coherent = self.settings.averaging == "coherent"
        return bool(self.settings.timing_skew or (coherent and self.settings.phase_drift))

    def average(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return what the ONN receives for codes.

        Args:
            codes_NP: Integer codes [n, P] of n <= N servers, or the values that the level below
                sends in steps of 1 / ``scenario.refinement``; the others are dark.
            generator: Random generator of drifting phases and of neighbouring symbols.

        Returns:
            ONN inputs in PAM4 amplitudes of a merged group: float32 [1, P, K] where servers do not
            differ, else complex64 fields (float32 for incoherent averaging) [C, P, K].
        """
        if not self.individual:
            sums_PK = preprocessing.inputs_of_values(codes_NP, self.scenario).sum(0)
            steps_K = torch.tensor(self.scenario.input_steps, device=codes_NP.device)
            return (sums_PK.float() / steps_K).unsqueeze(0)
        field_CNPM = self._sent(self._symbols(codes_NP))
        if self.settings.timing_skew:
            field_CNPM = self._skewed(field_CNPM, generator)
        if self.settings.averaging == "incoherent":
            field_CNPM = field_CNPM.real.square() + field_CNPM.imag.square()
        elif self.settings.phase_drift:
            random_CNP = _normal(field_CNPM.shape[:3], field_CNPM, generator)
            drift_CNP = residual_phases(random_CNP, sigma=self.settings.phase_drift)
            field_CNPM = shift(field_CNPM, drift_CNP.unsqueeze(-1))
        return self._merged(field_CNPM.sum(1) * (self.top_M / self.scenario.servers))

    def _symbols(self, codes_NP: Tensor) -> Tensor:
        """Split codes, or values with a decimal part, into symbols: [n, P] -> int64 [n, P, M]."""
        scenario = self.scenario
        whole_NP = torch.div(codes_NP, scenario.refinement, rounding_mode="floor")
        symbols_NPM = pam4.encode(whole_NP, symbols=scenario.symbols).long()
        decimal_NP = codes_NP - whole_NP * scenario.refinement
        symbols_NPM[..., -1] = symbols_NPM[..., -1] * scenario.refinement + decimal_NP
        return symbols_NPM

    def _sent(self, symbols_NPM: Tensor) -> Tensor:
        """Return the fields of symbols as they arrive, of full scale 1, complex64 [C, N, P, M]."""
        chips, servers = len(self.field_CNML), len(symbols_NPM)
        index_CNMP = symbols_NPM.mT.expand(chips, -1, -1, -1)
        return self.field_CNML[:, :servers].gather(-1, index_CNMP).mT

    def _skewed(self, field_CNPM: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mix symbols with their neighbours in time, which are random, as other values' are."""
        shape, device = field_CNPM.shape[1:], field_CNPM.device
        amplitudes = pam4.AMPLITUDES * self.scenario.refinement
        other_NPM = torch.randint(amplitudes, shape, generator=generator, device=device)
        other_NPM[..., :-1] %= pam4.AMPLITUDES
        delay_CN = self.delay_CN[:, : shape[0]]
        return skewed(field_CNPM, self._sent(other_NPM), delay_CN[..., None, None])

    def _merged(self, total_CPM: Tensor) -> Tensor:
        """Merge groups of symbols with positional weights: [C, P, M] -> [C, P, K]."""
        merged = []
        for group in torch.split(total_CPM, list(self.scenario.group_sizes), dim=-1):
            weights = 4.0 ** torch.arange(group.shape[-1] - 1, -1, -1, device=group.device)
            merged.append((group * weights).sum(-1))
        return torch.stack(merged, dim=-1)


def _normal(shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device)
