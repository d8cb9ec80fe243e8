"""An ONN as its drawn chips play it: light from detector to detector, electronics between."""

# Shape suffixes: C chips, N servers, P inputs, K ONN inputs, M symbols, m outputs, n inputs.

from __future__ import annotations

import torch
from torch import Tensor, nn

from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.layers import LayerBuilder, LayerTransfer
from optinc.onn.chip.servers import Servers
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.noise import full_scales
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import outputs
from optinc.signal.scenario import Scenario


class ChipNetwork(nn.Module):
    """Drawn chips of one ONN."""

    def __init__(
        self,
        onn: ONNArtifact,
        settings: ChipSettings,
        layers: list[LayerTransfer],
        servers: Servers,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.scenario: Scenario = onn.card.scenario
        self.chips = servers.chips
        self.servers = servers
        self._network = onn.network
        self._layers = layers
        scales = full_scales(onn.network, self.scenario)
        # Light of the uncentred first layer, of which a reference is subtracted.
        network, largest = onn.network, self.scenario.full_scale
        scales[0] = max(abs(network.input_scale * largest), abs(network.input_offset))
        self._scales = scales

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        onn: ONNArtifact,
        settings: ChipSettings,
        *,
        chips: int = 1,
        programme: MeshProgramme | None = None,
    ) -> ChipNetwork:
        """Draw chips of an ONN.

        Args:
            onn: The ONN.
            settings: Parts and errors; chip c is a function of (``settings.seed``, c) alone.
            chips: Number C of chips.
            programme: Settings of the meshes; None maps the ONN.
        """
        programme = (
            map_onn(onn, hardware=settings.hardware, bias=settings.bias)
            if programme is None
            else programme
        )
        draws = Draws(settings.seed, chips)
        layers = [
            LayerBuilder(settings, draws, programme, index).build()
            for index in range(len(programme.layers))
        ]
        return cls(onn, settings, layers, Servers(settings, onn.card.scenario, draws))

    @property
    def needs_servers(self) -> bool:
        """Whether an effect depends on each server's own symbol, not on the averages alone."""
        return self.servers.individual

    @property
    def dynamic(self) -> bool:
        """Whether some noise is drawn for every symbol."""
        settings = self.settings
        return bool(settings.noise or settings.receiver_noise or self.servers.dynamic)

    def forward(self, averages_PK: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Map averages A to the analog outputs of all chips.

        Args:
            averages_PK: ONN inputs, float [P, K], in PAM4 amplitudes of a merged group.
            generator: Random generator of the dynamic noise; None for the global one.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes.

        Raises:
            ValueError: If an effect depends on each server's own symbol.
        """
        if self.needs_servers:
            raise ValueError(
                "the chip's servers differ, so that averages do not decide its outputs; "
                "give the servers' codes to emit()"
            )
        field = averages_PK.unsqueeze(0)
        return self._play(field, generator)

    def emit(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Send the codes of the servers through unit P and the ONN of all chips.

        Args:
            codes_NP: Integer codes [N, P] of at most N servers; the others are dark.
            generator: Random generator of the dynamic noise; None for the global one.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes.
        """
        return self._play(self.servers.average(codes_NP, generator=generator), generator)

    def receive(self, amplitudes: Tensor) -> Tensor:
        """Snap outputs [..., M] to what the receivers take them for: int32 codes [...]."""
        received = outputs.receive(amplitudes, self.scenario)
        return outputs.value_of_outputs(received, self.scenario)

    def _play(self, field: Tensor, generator: torch.Generator | None) -> Tensor:
        chunks = []
        for chip in range(self.chips):
            own = field[chip if len(field) > 1 else 0]
            chunks.append(self._play_chip(own, chip, generator))
        return torch.stack(chunks)

    def _play_chip(
        self, averages_PK: Tensor, chip: int, generator: torch.Generator | None
    ) -> Tensor:
        network, settings = self._network, self.settings
        signal = averages_PK * network.input_scale + network.input_offset
        last = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            if settings.noise:
                random = torch.randn(signal.shape, generator=generator, device=signal.device)
                signal = signal + settings.noise * self._scales[i] * random
            weight, bias = layer.weight[chip], layer.bias_Cm[chip]
            if settings.detection == "homodyne" and not signal.is_complex():
                weight, bias = weight.real, bias.real
            else:
                signal = signal.to(weight.dtype)
            signal = signal * weight + bias if layer.diagonal else signal @ weight.mT + bias
            if signal.is_complex():
                signal = signal.real if settings.detection == "homodyne" else signal.abs()
            if i < last:
                signal = self._electronics(signal, i + 1)
        amplitudes = signal * network.output_scale + network.output_offset
        if settings.receiver_noise:
            random = torch.randn(amplitudes.shape, generator=generator, device=signal.device)
            amplitudes = amplitudes + settings.receiver_noise * 3 * random
        return amplitudes

    def _electronics(self, signal: Tensor, following: int) -> Tensor:
        settings = self.settings
        leak = 0.0 if settings.relu_leak is None else 10 ** (-settings.relu_leak / 20)
        knee = settings.relu_knee * self._scales[following]
        if knee:
            positive = (signal + (signal.square() + knee**2).sqrt()) / 2
        else:
            positive = torch.relu(signal)
        return positive + leak * (signal - positive) if leak else positive
