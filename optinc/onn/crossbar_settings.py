"""Settings of an ONN's crossbars: from weights and biases to attenuators, and back.

Every nonzero weight and every nonzero bias is one attenuator (:mod:`optinc.photonics.crossbar`).
Each output has an amplifier of its own, whose gain opens the attenuator of its largest weight:

    output_i = gain_i (sum_j share_j passed_ij input_j + beam_i passed_ib)

The reference beam is split in proportion to what the biases ask for, so that all their attenuators
are open too. The modulators of a layer get light in proportion to the attenuators that they feed,
so that all lie in equal light, share_j = 1. Only layer 1 of a crossbar of fields gets its light
from unit P, each input as much: share_j = 1 / sqrt(k_j) is what the splitter to k_j attenuators
leaves.
Intensities cannot be negative: layer 1 then takes the averages themselves, and its biases the
offset that the network adds to them.
"""

# Shape suffixes: m outputs, n inputs, p = n + 1 inputs with the reference beam, A attenuators in
# the order of their inputs, the reference last, and of outputs.

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from torch import Tensor

from optinc.commands import run_command
from optinc.errors import ArtifactError
from optinc.onn.artifact import ONNArtifact, ONNCard, network_of
from optinc.onn.network import OpticalNetwork
from optinc.photonics.area import CrossbarCounts
from optinc.photonics.chip_settings import Detection

SETTINGS_FILE = "crossbar.safetensors"
DESCRIPTION_FILE = "crossbar.json"

FORMAT = 1
"""Version of stored settings."""

TENSORS = ("output", "input", "passed", "gain", "beam")
"""Settings of every layer."""


@dataclass(frozen=True)
class CrossbarLayer:
    """One layer as a crossbar.

    Attributes:
        outputs: Outputs m.
        inputs: Inputs n; number n among the inputs is the reference beam.
        output_A: Output that each attenuator feeds, int64.
        input_A: Input that feeds it, int64, ascending.
        passed_A: Share of amplitude or intensity that it passes, with its sign: -1 to 1, float64.
        gain_m: Gain behind the detectors of each output, float64.
        beam_m: Light of the reference beam at the attenuator of each output, in units of the
            inputs, float64; 0 without a bias.
        shared: Whether a splitter divides the light of each input, see the module.
    """

    outputs: int
    inputs: int
    output_A: Tensor
    input_A: Tensor
    passed_A: Tensor
    gain_m: Tensor
    beam_m: Tensor
    shared: bool = False

    @property
    def fan_out_p(self) -> Tensor:
        """Attenuators that each input feeds, the reference beam last: int64 [p]."""
        return self.input_A.bincount(minlength=self.inputs + 1)

    @property
    def fan_in_m(self) -> Tensor:
        """Attenuators that feed each output: int64 [m]."""
        return self.output_A.bincount(minlength=self.outputs)

    def shares(self) -> Tensor:
        """Return the light of each attenuator for an input of 1, float64 [A]."""
        share_p = torch.ones(self.inputs + 1, dtype=torch.float64)
        if self.shared:
            share_p[:-1] = self.fan_out_p[:-1].clamp(min=1).double().rsqrt()
        of_bias = self.input_A == self.inputs
        return torch.where(of_bias, self.beam_m[self.output_A], share_p[self.input_A])

    @property
    def transfer_mp(self) -> Tensor:
        """Outputs for inputs and a reference beam of 1, float64 [m, p]."""
        transfer_mp = torch.zeros(self.outputs, self.inputs + 1, dtype=torch.float64)
        transfer_mp[self.output_A, self.input_A] = self.shares() * self.passed_A
        return self.gain_m.unsqueeze(1) * transfer_mp

    @property
    def parts(self) -> CrossbarCounts:
        """Attenuators, and the splitters, combiners, detectors and amplifiers around them."""
        fan_out_p = self.fan_out_p
        return CrossbarCounts(
            weights=int(fan_out_p[:-1].sum()),
            biases=int(fan_out_p[-1]),
            splitters=int((fan_out_p - 1).clamp(min=0).sum()),
            joints=int((self.fan_in_m - 1).clamp(min=0).sum()),
            amplifiers=self.outputs,
        )


@dataclass(frozen=True)
class CrossbarProgramme:
    """Settings of the crossbars of an ONN.

    Attributes:
        card: Card of the ONN.
        layers: All layers.
        detection: Form of light: ``homodyne`` (amplitudes) or ``direct`` (intensities).
    """

    card: ONNCard
    layers: tuple[CrossbarLayer, ...]
    detection: Detection = "homodyne"

    @property
    def parts(self) -> CrossbarCounts:
        """The parts of all layers."""
        return CrossbarCounts.total(layer.parts for layer in self.layers)

    def save(self, folder: Path | str) -> None:
        """Write ``crossbar.safetensors`` and ``crossbar.json``.

        Args:
            folder: Folder of the two files, created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            f"layers.{i}.{name}": value.contiguous()
            for i, layer in enumerate(self.layers)
            for name, value in zip(TENSORS, _tensors(layer), strict=True)
        }
        safetensors.torch.save_file(settings, folder / SETTINGS_FILE)
        description = {
            "format": FORMAT,
            "onn": asdict(self.card),
            "detection": self.detection,
            "layers": [_described(layer) for layer in self.layers],
        }
        path = folder / DESCRIPTION_FILE
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> CrossbarProgramme:
        """Read the settings that :meth:`save` has written.

        Args:
            folder: Folder of the two files.

        Raises:
            ArtifactError: If a file is missing or damaged, or written by another version.
        """
        folder = Path(folder)
        try:
            described: dict[str, Any] = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
            _check(described)
            settings = safetensors.torch.load_file(folder / SETTINGS_FILE)
            layers = tuple(
                _layer(layer, [settings[f"layers.{i}.{name}"] for name in TENSORS])
                for i, layer in enumerate(described["layers"])
            )
            card = ONNCard.from_json(json.dumps(described["onn"]))
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"{folder} holds no settings of crossbars: {error}") from error
        return cls(card=card, layers=layers, detection=described["detection"])


def _check(described: dict[str, Any]) -> None:
    """Refuse settings of another version or form.

    Raises:
        ValueError: Says what is wrong.
    """
    if described.get("format") != FORMAT:
        again = ["task=map_onn", "onn=NAME_OR_FOLDER", "optinc.chip.hardware=crossbar"]
        raise ValueError(
            f"format {described.get('format')}, this version reads {FORMAT}; write them anew: "
            f"{run_command(again)}"
        )
    if described["detection"] not in get_args(Detection):
        raise ValueError(f"{described['detection']!r} is no form of detection")


def _tensors(layer: CrossbarLayer) -> tuple[Tensor, ...]:
    return layer.output_A, layer.input_A, layer.passed_A, layer.gain_m, layer.beam_m


def _described(layer: CrossbarLayer) -> dict[str, Any]:
    return {"outputs": layer.outputs, "inputs": layer.inputs, "shared": layer.shared}


def _layer(described: dict[str, Any], tensors: list[Tensor]) -> CrossbarLayer:
    """Return a stored layer.

    Raises:
        ValueError: If an attenuator lies between no input and no output, or gives gain.
    """
    output_A, input_A, passed_A, gain_m, beam_m = tensors
    layer = CrossbarLayer(
        output_A=output_A,
        input_A=input_A,
        passed_A=passed_A,
        gain_m=gain_m,
        beam_m=beam_m,
        **described,
    )
    sizes = {len(output_A), len(input_A), len(passed_A)}
    inside = (
        len(sizes) == 1
        and len(gain_m) == len(beam_m) == layer.outputs
        and bool(((output_A >= 0) & (output_A < layer.outputs)).all())
        and bool(((input_A >= 0) & (input_A <= layer.inputs)).all())
        and bool((passed_A.abs() <= 1).all())
    )
    if not inside:
        raise ValueError("an attenuator belongs to no input or output, or passes more than all")
    return layer


@torch.no_grad()
def map_crossbar(onn: ONNArtifact, *, detection: Detection = "homodyne") -> CrossbarProgramme:
    """Compute the settings of the crossbars of an ONN.

    Args:
        onn: The ONN.
        detection: Form of light: ``homodyne`` (amplitudes) or ``direct`` (intensities).
    """
    network = onn.network
    layers = []
    for i, linear in enumerate(network.linears):
        weight_mn, bias_m = linear.weight.double(), linear.bias.double()
        first = i == 0
        if first and detection == "direct":
            bias_m = bias_m + weight_mn.sum(1) * network.input_offset
            weight_mn = weight_mn * (1.0 if network.input_scale >= 0 else -1.0)
        layers.append(_mapped(weight_mn, bias_m, shared=first and detection == "homodyne"))
    return CrossbarProgramme(card=onn.card, layers=tuple(layers), detection=detection)


def _mapped(weight_mn: Tensor, bias_m: Tensor, *, shared: bool) -> CrossbarLayer:
    """Return the crossbar of a weight and a bias."""
    outputs, inputs = weight_mn.shape
    wanted_mp = torch.cat([weight_mn, bias_m.unsqueeze(1)], dim=1)
    input_A, output_A = wanted_mp.T.nonzero(as_tuple=True)
    layer = CrossbarLayer(
        outputs=outputs,
        inputs=inputs,
        output_A=output_A,
        input_A=input_A,
        passed_A=torch.ones(len(input_A), dtype=torch.float64),
        gain_m=torch.ones(outputs, dtype=torch.float64),
        beam_m=torch.ones(outputs, dtype=torch.float64),
        shared=shared,
    )
    # What an attenuator would have to pass, were the gain 1.
    asked_A = wanted_mp[output_A, input_A] / layer.shares()
    of_weight = input_A < inputs
    gain_m = torch.zeros(outputs, dtype=torch.float64)
    gain_m.scatter_reduce_(0, output_A[of_weight], asked_A[of_weight].abs(), "amax")
    # Where only a bias feeds an output, it is as strong as an input; where nothing does, gain 1.
    gain_m = torch.where(gain_m > 0, gain_m, bias_m.abs())
    gain_m = torch.where(gain_m > 0, gain_m, torch.ones_like(gain_m))
    passed_A = torch.where(of_weight, asked_A / gain_m[output_A], asked_A.sign())
    return replace(
        layer, passed_A=passed_A.clamp(-1.0, 1.0), gain_m=gain_m, beam_m=bias_m.abs() / gain_m
    )


@torch.no_grad()
def rebuild_crossbar(programme: CrossbarProgramme) -> OpticalNetwork:
    """Rebuild the float32 network of an ONN from the settings of its crossbars."""
    network = network_of(programme.card)
    state = {}
    for i, layer in enumerate(programme.layers):
        transfer_mp = layer.transfer_mp
        weight_mn, bias_m = transfer_mp[:, :-1], transfer_mp[:, -1]
        if i == 0 and programme.detection == "direct":
            weight_mn = weight_mn * (1.0 if network.input_scale >= 0 else -1.0)
            bias_m = bias_m - weight_mn.sum(1) * network.input_offset
        state[f"layers.{i}.weight"], state[f"layers.{i}.bias"] = weight_mn, bias_m
    network.load_state_dict({name: value.float() for name, value in state.items()})
    return network.eval().requires_grad_(False)
