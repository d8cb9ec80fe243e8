"""Training that expects errors: every step runs on chips that are newly drawn for it.

A drawn chip plays the weights W as W + D, where D follows from the settings of its meshes and its
errors. A step draws new chips and plays them as :class:`~optinc.onn.chip.ChipNetwork` does, noise
and rounded phases included; D is that of the settings which were last computed, and counts as a
constant of the step that grows with the weights, D(t W) = t D(W). Its gradient is therefore that of
given errors (straight through the rounding of phases): training learns margins and small weights,
not which settings of a mesh err least.
"""

# Shape suffixes: C chips, P samples, K ONN inputs, M symbols, m outputs, n inputs.

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn.artifact import unstored
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.layers import LayerTransfer
from optinc.onn.chip.network import ChipNetwork
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.chip.servers import EFFECTS, PHASES, Servers
from optinc.onn.design import ONNDesign, in_cascade
from optinc.onn.network import OpticalNetwork
from optinc.onn.server_symbols import draw_codes
from optinc.onn.training.settings import check_counts
from optinc.photonics.chip_settings import ChipSettings, numbers


@dataclass(frozen=True)
class _Drawn:
    """Chips of the next steps, all with the same settings.

    Attributes:
        first: Number of the first chip.
        network: The network when the settings were computed, on the CPU.
        scales: Full scale of every layer's inputs in it.
        layers: Transfers of its layers on all of these chips.
    """

    first: int
    network: OpticalNetwork
    scales: list[float]
    layers: list[LayerTransfer]


class FreshChips:
    """Chips in the loop of a training: new ones in every step.

    The chips of a step and their noise are functions of (``settings.seed``, ``seed``, step) alone,
    so a resumed training draws the same ones. They are others than those that
    :meth:`~optinc.onn.chip.ChipNetwork.draw` draws for an evaluation.

    Args:
        settings: Parts and errors.
        design: Scenario, structure and approximated layers of the ONN.
        chips: Chips C of a step, each of which plays the whole batch.
        mapping_interval: Steps between two computations of the settings of the meshes. In between
            the errors are those of settings up to as many steps old.
        seed: Seed of the training.

    Raises:
        ConfigurationError: If a value is illegal, the chip is ideal, or it has an effect that
            training does not play; names the setting and the remedy.

    Attributes:
        evaluated: The same parts with the seed of chips that training does not see.
    """

    def __init__(
        self,
        settings: ChipSettings,
        *,
        design: ONNDesign,
        chips: int,
        mapping_interval: int,
        seed: int,
    ) -> None:
        check_counts("onn_training", chips=chips, mapping_interval=mapping_interval)
        _check_played(settings, design)
        self.design, self.chips, self.mapping_interval = design, chips, mapping_interval
        self.evaluated = settings
        self.settings = replace(settings, seed=_hashed("training", settings.seed, seed))
        self._drawn: _Drawn | None = None

    @torch.no_grad()
    def set_meshes(self, network: OpticalNetwork, *, step: int) -> None:
        """Compute settings for the weights that a network has now, and draw chips with them.

        Args:
            network: The network.
            step: 0-based step of the training, from which on ``mapping_interval`` steps get chips.
        """
        own = copy.deepcopy(network).cpu().requires_grad_(False)
        scales = uncentred_scales(own, self.design.scenario)
        # Many chips at once are drawn in little more time than one.
        chips = ChipNetwork.draw(
            unstored(own, self.design),
            self.settings,
            chips=self.chips * self.mapping_interval,
            first=self.chips * step,
            scales=scales,
        )
        layers = [cast("LayerTransfer", layer) for layer in chips.layers]
        self._drawn = _Drawn(self.chips * step, own, scales, layers)

    def draw(self, network: OpticalNetwork, averages_PK: Tensor, *, step: int) -> ChipNetwork:
        """Return the chips of a step, differentiable in the weights of a network.

        Args:
            network: The network, of which :meth:`set_meshes` has been given an earlier state.
            averages_PK: ONN inputs whose strongest light stands for the full scale's gradient.
            step: 0-based step of the training.
        """
        drawn, first = self._drawn, self.chips * step
        if drawn is None or not drawn.first <= first < drawn.first + self.chips * (
            self.mapping_interval
        ):
            raise RuntimeError(f"set_meshes() has drawn no chips for step {step}")
        chosen = slice(first - drawn.first, first - drawn.first + self.chips)
        layers = [
            _moved(layer, chosen, linear, old)
            for layer, linear, old in zip(
                drawn.layers, network.linears, drawn.network.linears, strict=True
            )
        ]
        draws = Draws(self.settings.seed, self.chips, first)
        servers = Servers(self.settings, self.design.scenario, draws)
        scales = _with_gradient(drawn.scales, network, averages_PK)
        return ChipNetwork(
            network,
            self.settings,
            servers.to(averages_PK.device),
            layers,
            chips=self.chips,
            scales=scales,
        )

    def play(self, network: OpticalNetwork, averages_PK: Tensor, *, step: int) -> Tensor:
        """Map averages A to the analog outputs of the chips of a step.

        Args:
            network: The network, of which :meth:`set_meshes` has been given an earlier state.
            averages_PK: ONN inputs, float [P, K], in PAM4 amplitudes of a merged group.
            step: 0-based step of the training.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes; differentiable in the weights.
        """
        generator = torch.Generator(averages_PK.device).manual_seed(
            _hashed(self.settings.seed, step)
        )
        chips = self.draw(network, averages_PK, step=step)
        if not chips.needs_servers:
            return chips.play(averages_PK.unsqueeze(0), generator=generator)
        steps = torch.tensor(self.design.scenario.input_steps, device=averages_PK.device)
        sums_PK = (averages_PK * steps).round().long()
        codes_NP = draw_codes(sums_PK, self.design.scenario, generator=generator)
        return chips.play(chips.servers.average(codes_NP, generator=generator), generator=generator)


def drawn_chips(
    *, settings: ChipSettings, design: ONNDesign, chips: int, mapping_interval: int, seed: int
) -> FreshChips | None:
    """Return the chips in the loop of a training, or None for ``onn_training.chips=0``.

    Args:
        settings: Parts and errors.
        design: Scenario, structure and approximated layers.
        chips: Chips of a step; 0 for none.
        mapping_interval: Steps between two computations of the settings of the meshes.
        seed: Seed of the training.

    Raises:
        ConfigurationError: See :class:`FreshChips`.
    """
    if chips == 0:
        return None
    return FreshChips(
        settings, design=design, chips=chips, mapping_interval=mapping_interval, seed=seed
    )


def _moved(layer: LayerTransfer, chosen: slice, now: nn.Linear, old: nn.Linear) -> LayerTransfer:
    """Return the transfer of some chips for weights that differ from those it was drawn for."""
    weight_mn, bias_m = now.weight, now.bias
    on_device = weight_mn.device
    old_mn, old_m = old.weight, old.bias
    if layer.diagonal:
        weight_mn, old_mn = torch.diagonal(weight_mn), torch.diagonal(old_mn)
    # W and b share gain and reference beam: the errors of both grow when both do.
    size = (now.weight.square().sum() + bias_m.square().sum()).sqrt()
    old_size = float((old.weight.square().sum() + old_m.square().sum()).sqrt())
    grown = size / old_size if old_size else torch.ones_like(size)
    return LayerTransfer(
        weight=weight_mn + grown * (layer.weight[chosen] - old_mn).to(on_device),
        bias_Cm=bias_m + grown * (layer.bias_Cm[chosen] - old_m).to(on_device),
        gain_Cm=grown * layer.gain_Cm[chosen].to(on_device),
    )


def _with_gradient(
    scales: Sequence[float], network: OpticalNetwork, averages_PK: Tensor
) -> list[float | Tensor]:
    """Give full scales the gradient of the strongest light that a batch sends into each layer.

    Without it noise would shrink, for the gradient, relative to signals that grow.
    """
    moving: list[float | Tensor] = [scales[0]]
    signal = averages_PK * network.input_scale + network.input_offset
    for scale, layer in zip(scales[1:], network.linears[:-1], strict=True):
        signal = torch.relu(layer(signal))
        strongest = signal.max()
        moving.append(scale + (strongest - strongest.detach()))
    return moving


def _check_played(settings: ChipSettings, design: ONNDesign) -> None:
    """Refuse a chip without errors and noise, and what training does not play.

    Raises:
        ConfigurationError: Names the setting and the remedy.
    """
    ideal = ChipSettings()
    effects = [each.name for each in numbers() if each.metadata["kind"] in ("static", "dynamic")]
    if all(getattr(settings, name) == getattr(ideal, name) for name in effects):
        raise ConfigurationError(
            "onn_training.chips trains through the errors and noise of optinc.chip, which has "
            "none: choose a chip, such as optinc/chip=silicon, or onn_training.chips=0"
        )
    if settings.detection != "homodyne":
        raise ConfigurationError(
            f"onn_training.chips needs signed outputs, optinc.chip.detection=homodyne, got "
            f"{settings.detection}"
        )
    if in_cascade(design.scenario) and Servers(settings, design.scenario, Draws(0, 1)).individual:
        raise ConfigurationError(
            "switches of a cascade are trained through chips of equal servers: set "
            f"{', '.join(f'optinc.chip.{name}' for name in (*EFFECTS, *PHASES))} to 0 and "
            "optinc.chip.modulator_extinction to null, or onn_training.chips=0"
        )


def _hashed(*parts: str | int) -> int:
    """Return a seed of 63 bits that is a function of words and numbers."""
    text = "|".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
