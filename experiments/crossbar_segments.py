"""Segments of light of an ONN's switch whose layers are crossbars, for link budgets."""

# Shape suffixes: P samples, m outputs, n inputs, p = n + 1 inputs with the reference beam.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.link_segments import merged, unit_p
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.crossbar import divided_light, tree_stages
from optinc.onn.crossbar_settings import CrossbarLayer, CrossbarProgramme
from optinc.photonics.area import crossings
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import Segment
from optinc.signal.scenario import Scenario

UNIT_T = "unit T"
"""Name of the segment behind crossbars of intensities."""


def crossbar_segments(
    onn: ONNArtifact,
    programme: CrossbarProgramme,
    settings: ChipSettings,
    scales: Sequence[float],
    averages_PK: Tensor,
) -> list[Segment]:
    """Return the segments of light from the servers through every crossbar back to the servers.

    A layer's loss and noise are those of the output whose amplifier has most to do. Intensities
    end in currents: unit P has detectors behind it, and unit T modulators before it.

    Args:
        onn: The ONN.
        programme: Settings of its crossbars.
        settings: Technology of the chip.
        scales: Full scales between layers, from ``experiments.link_segments.full_scales``.
        averages_PK: Inputs of the ONN, by which the light on diodes is found.
    """
    scenario, intensity = onn.card.scenario, programme.detection == "direct"
    incoherent = settings.averaging == "incoherent"
    detached = intensity or incoherent
    segments = []
    if detached:
        segments.append(unit_p(scenario, incoherent=incoherent, detection="homodyne"))
    lit = _lit(onn, programme, averages_PK) if intensity else [1.0] * len(programme.layers)
    for i, layer in enumerate(programme.layers):
        first, last = i == 0 and not detached, i + 1 == len(programme.layers) and not intensity
        gains_m = layer.gain_m * (1.0 if intensity else layer.fan_in_m.clamp(min=1).sqrt())
        worst = int(gains_m.argmax())
        combined = 1.0 if intensity else 1.0 / max(1, int(layer.fan_in_m[worst]))
        segments.append(
            Segment(
                name=f"layer {i + 1}",
                inputs=scenario.servers * scenario.symbols if first else layer.inputs,
                outputs=scenario.servers * layer.outputs if last else layer.outputs,
                columns=1,
                gain=float(layer.gain_m[worst]),
                largest_input=scales[i],
                largest_output=scales[i + 1],
                reference=_reference(layer, scales[i], intensity=intensity),
                servers=scenario.servers if first else 0,
                merged=merged(scenario) if first else (1,),
                receivers=scenario.servers if last else 0,
                intensity=intensity,
                divided=divided_light(layer) * combined,
                trees=tree_stages(layer, intensities=intensity),
                crossings=0 if intensity else crossings(layer.outputs, layer.inputs),
                lit=lit[i] / (float(layer.gain_m[worst]) * scales[i + 1]) if intensity else 1.0,
            )
        )
    return [*segments, unit_t(scenario)] if intensity else segments


def unit_t(scenario: Scenario) -> Segment:
    """Return unit T behind modulators of its own, where the last layer ends in currents."""
    return Segment(
        name=UNIT_T,
        inputs=scenario.received_symbols,
        outputs=scenario.servers * scenario.received_symbols,
        columns=0,
        receivers=scenario.servers,
        intensity=True,
    )


def _reference(layer: CrossbarLayer, largest_input: float, *, intensity: bool) -> float:
    """Return the light of a layer's reference beams in units of a modulator's."""
    strength_m = (layer.beam_m / largest_input) ** (1 if intensity else 2)
    return float(strength_m.sum()) * divided_light(layer)


@torch.no_grad()
def _lit(onn: ONNArtifact, programme: CrossbarProgramme, averages_PK: Tensor) -> list[float]:
    """Return for every layer the largest light on an output's diodes times its gain."""
    network = onn.network
    signal_P = averages_PK * abs(network.input_scale)
    found = []
    for layer in programme.layers:
        transfer_mp = layer.transfer_mp.float()
        weight_mn, bias_m = transfer_mp[:, :-1], transfer_mp[:, -1]
        lit_Pm = signal_P @ weight_mn.abs().T + bias_m.abs()
        found.append(float((lit_Pm.amax(0) * layer.gain_m).max()))
        signal_P = torch.relu(signal_P @ weight_mn.T + bias_m)
    return found
