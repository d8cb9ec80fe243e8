"""Unit P on drawn chips: the servers' transmitters, their light, and its average."""

# Shape suffixes: C chips, N servers, P values, M symbols, K ONN inputs, L PAM4 levels.

from __future__ import annotations

import math

import torch
from torch import Tensor

from optinc.onn.chip.draws import Draws
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import pam4, preprocessing
from optinc.signal.scenario import Scenario


class Servers:
    """Transmitters of the servers, and the averaging of their light on drawn chips."""

    def __init__(self, settings: ChipSettings, scenario: Scenario, draws: Draws) -> None:
        self.settings, self.scenario, self.chips = settings, scenario, draws.chips
        servers, symbols = scenario.servers, scenario.symbols
        levels = torch.arange(float(pam4.AMPLITUDES), dtype=torch.float64)
        shape = (servers, symbols, pam4.AMPLITUDES)
        error = draws.normal("level_error", "servers", shape, sigma=settings.level_error)
        levels_CNML = levels.expand(draws.chips, *shape)
        if error is not None:
            levels_CNML = levels_CNML + (pam4.AMPLITUDES - 1) * error
        imbalance = draws.normal(
            "server_imbalance", "servers", (servers, 1, 1), sigma=settings.server_imbalance
        )
        if imbalance is not None:
            levels_CNML = levels_CNML * (1 + imbalance)
        field_CNML = levels_CNML + 0j
        if settings.server_phase:
            if math.isinf(settings.server_phase):
                drawn = draws.uniform("server_phase", "servers", (servers, 1, 1))
                phase = 2 * math.pi * drawn
            else:
                phase = draws.normal(
                    "server_phase", "servers", (servers, 1, 1), sigma=settings.server_phase
                )
            field_CNML = field_CNML * torch.polar(torch.ones_like(phase), phase)
        self.field_CNML = field_CNML.to(torch.complex64)

    @property
    def individual(self) -> bool:
        """Whether the averages alone do not decide what the ONN receives."""
        settings = self.settings
        return bool(
            settings.level_error
            or settings.server_imbalance
            or settings.server_phase
            or settings.phase_drift
            or settings.timing_skew
            or settings.modulator_extinction is not None
        )

    @property
    def dynamic(self) -> bool:
        """Whether something differs from symbol to symbol."""
        return bool(self.settings.phase_drift or self.settings.timing_skew)

    def average(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the fields that the ONN receives, complex64 [C, P, K] (float32 where exact)."""
        if not self.individual:
            return preprocessing.preprocess(codes_NP, self.scenario).unsqueeze(0)
        symbols_NPM = pam4.encode(codes_NP, symbols=self.scenario.symbols).long()
        servers, values, symbols = symbols_NPM.shape
        index = symbols_NPM.permute(0, 2, 1).expand(self.chips, -1, -1, -1)
        field_CNMP = self.field_CNML[:, :servers].gather(-1, index)
        if self.settings.phase_drift:
            shape = (self.chips, servers, 1, values)
            drift = torch.randn(shape, generator=generator) * self.settings.phase_drift
            field_CNMP = field_CNMP * torch.polar(torch.ones_like(drift), drift)
        total_CPM = field_CNMP.sum(1).mT / self.scenario.servers
        merged = []
        for group in total_CPM.split(list(self.scenario.group_sizes), dim=-1):
            weights = 4.0 ** torch.arange(group.shape[-1] - 1, -1, -1)
            merged.append((group * weights).sum(-1))
        return torch.stack(merged, dim=-1)
