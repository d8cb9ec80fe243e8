"""Settings of all meshes of an ONN: from weights to phases and attenuations, and back (Fig. 2).

A layer in SVD form is a mesh for V^T, one attenuator per singular value, and a mesh for U. A layer
in Sigma U form is, for every square block, a mesh for U_a and one attenuator per row. Passive light
only loses power, so every layer has one gain, its largest singular value or scale, and attenuations
of at most 1. The bias is a reference beam of amplitude ``bias_gain``, split to the outputs and
attenuated there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.errors import ArtifactError
from optinc.onn.approximation import blocks_by_size, factorize, put_blocks, take_blocks
from optinc.onn.artifact import ONNArtifact, ONNCard, network_of
from optinc.onn.network import OpticalNetwork
from optinc.photonics import area
from optinc.photonics.decomposition import MeshPhases, decompose, rebuild

SETTINGS_FILE = "programme.safetensors"
DESCRIPTION_FILE = "programme.json"

REBUILT_TOLERANCE = 1e-5
"""Share of a layer's largest weight by which weights rebuilt from mesh settings may differ."""


@dataclass(frozen=True)
class LayerDescription:
    """Form, size and gains of a layer.

    Attributes:
        form: ``svd`` (U S V^T) or ``sigma_u`` (eq. 4).
        outputs: Outputs m.
        inputs: Inputs n.
        gain: Amplitude gain that brings all attenuations to at most 1.
        bias_gain: Amplitude of the reference beam.
        mzi_count: Number of interferometers, without the bias.
        optical_depth: Number of interferometers that light crosses, an attenuator counted as one.
    """

    form: str
    outputs: int
    inputs: int
    gain: float
    bias_gain: float
    mzi_count: int
    optical_depth: int


@dataclass(frozen=True)
class MeshProgramme:
    """Settings of all meshes of an ONN.

    Attributes:
        card: Card of the ONN.
        layers: Descriptions of all layers.
        settings: float64 tensors by name: ``layers.<i>.<mesh>.theta | phi | output`` in rad, where
            <mesh> is ``left`` (U) or ``right`` (V^T), or ``blocks<s>`` for all blocks of size s;
            ``layers.<i>.attenuation`` (or ``layers.<i>.blocks<s>.attenuation``), 0 to 1; and
            ``layers.<i>.bias``, -1 to 1.
    """

    card: ONNCard
    layers: tuple[LayerDescription, ...]
    settings: dict[str, Tensor]

    @property
    def optical_depth(self) -> int:
        """Number of interferometers that light crosses from the inputs to the outputs."""
        return sum(layer.optical_depth for layer in self.layers)

    def save(self, folder: Path | str) -> None:
        """Write ``programme.safetensors`` and ``programme.json``.

        Args:
            folder: Folder of the two files, created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(self.settings, folder / SETTINGS_FILE)
        description = {
            "onn": asdict(self.card),
            "optical_depth": self.optical_depth,
            "layers": [asdict(layer) for layer in self.layers],
        }
        path = folder / DESCRIPTION_FILE
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> MeshProgramme:
        """Read the settings that :meth:`save` has written.

        Args:
            folder: Folder of the two files.

        Raises:
            ArtifactError: If a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            description: dict[str, Any] = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
            return cls(
                card=ONNCard.from_json(json.dumps(description["onn"])),
                layers=tuple(LayerDescription(**layer) for layer in description["layers"]),
                settings=safetensors.torch.load_file(folder / SETTINGS_FILE),
            )
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"{folder} holds no mesh programme: {error}") from error


def map_onn(onn: ONNArtifact) -> MeshProgramme:
    """Compute the settings of all meshes of an ONN."""
    settings: dict[str, Tensor] = {}
    layers = []
    for i, linear in enumerate(onn.network.linears):
        approximated = i + 1 in onn.card.approximated_layers
        found, gain = _map_sigma_u(linear) if approximated else _map_svd(linear)
        bias = linear.bias.double()
        bias_gain = float(bias.abs().max()) or 1.0
        found["bias"] = bias / bias_gain
        settings |= {f"layers.{i}.{name}": value.contiguous() for name, value in found.items()}
        count = area.approximated_mzis if approximated else area.svd_mzis
        layers.append(
            LayerDescription(
                form="sigma_u" if approximated else "svd",
                outputs=linear.out_features,
                inputs=linear.in_features,
                gain=gain,
                bias_gain=bias_gain,
                mzi_count=count(linear.out_features, linear.in_features),
                optical_depth=area.layer_depth(
                    linear.out_features, linear.in_features, approximated=approximated
                ),
            )
        )
    return MeshProgramme(card=onn.card, layers=tuple(layers), settings=settings)


def _map_svd(linear: nn.Linear) -> tuple[dict[str, Tensor], float]:
    """Return the settings and the gain of a layer in SVD form."""
    left, singular, right = torch.linalg.svd(linear.weight.double())
    gain = float(singular.max()) or 1.0
    settings = {"attenuation": singular / gain}
    settings |= _named("left", decompose(left.unsqueeze(0)))
    settings |= _named("right", decompose(right.unsqueeze(0)))
    return settings, gain


def _map_sigma_u(linear: nn.Linear) -> tuple[dict[str, Tensor], float]:
    """Return the settings and the gain of a layer in Sigma U form."""
    weight = linear.weight.double()
    factors = {
        size: factorize(take_blocks(weight, blocks))
        for size, blocks in blocks_by_size(*weight.shape).items()
    }
    gain = max(float(scale.max()) for scale, _ in factors.values()) or 1.0
    settings = {}
    for size, (scale, unitary) in factors.items():
        settings[f"blocks{size}.attenuation"] = scale / gain
        settings |= _named(f"blocks{size}", decompose(unitary))
    return settings, gain


def _named(name: str, phases: MeshPhases) -> dict[str, Tensor]:
    return {
        f"{name}.theta": phases.theta_BE,
        f"{name}.phi": phases.phi_BE,
        f"{name}.output": phases.output_Bn,
    }


@torch.no_grad()
def check_rebuilt(programme: MeshProgramme, network: OpticalNetwork) -> float:
    """Rebuild the network of a programme, and check it against the one that was mapped.

    Returns:
        The largest difference between two weights or biases.

    Raises:
        ArtifactError: If a weight or bias differs by more than :data:`REBUILT_TOLERANCE` of the
            largest one of its layer; names the layer.
    """
    rebuilt, worst = rebuild_network(programme), 0.0
    for index, (new, old) in enumerate(zip(rebuilt.linears, network.linears, strict=True), start=1):
        for name, value in old.named_parameters():
            error = float((new.get_parameter(name) - value).abs().max())
            largest = float(value.abs().max())
            worst = max(worst, error)
            if not error <= REBUILT_TOLERANCE * largest:
                raise ArtifactError(
                    f"the meshes of layer {index} do not act as its {name}: they differ by up to "
                    f"{error:.2g}; the largest is {largest:.2g}, of which {REBUILT_TOLERANCE:g} is "
                    "legal"
                )
    return worst


def rebuild_network(programme: MeshProgramme) -> OpticalNetwork:
    """Rebuild the float32 network of an ONN from the settings of its meshes."""
    network = network_of(programme.card)
    state = {}
    for i, layer in enumerate(programme.layers):
        prefix = f"layers.{i}"
        if layer.form == "svd":
            weight = _weight_of_svd(programme.settings, prefix)
        else:
            weight = _weight_of_sigma_u(programme.settings, prefix, layer)
        state[f"{prefix}.weight"] = weight * layer.gain
        state[f"{prefix}.bias"] = programme.settings[f"{prefix}.bias"] * layer.bias_gain
    network.load_state_dict({name: value.float() for name, value in state.items()})
    return network.eval().requires_grad_(False)


def _phases(settings: dict[str, Tensor], name: str) -> MeshPhases:
    return MeshPhases(
        theta_BE=settings[f"{name}.theta"],
        phi_BE=settings[f"{name}.phi"],
        output_Bn=settings[f"{name}.output"],
    )


def _weight_of_svd(settings: dict[str, Tensor], prefix: str) -> Tensor:
    left = rebuild(_phases(settings, f"{prefix}.left"))[0].real
    right = rebuild(_phases(settings, f"{prefix}.right"))[0].real
    attenuation = settings[f"{prefix}.attenuation"]
    rank = len(attenuation)
    return left[:, :rank] * attenuation @ right[:rank]


def _weight_of_sigma_u(settings: dict[str, Tensor], prefix: str, layer: LayerDescription) -> Tensor:
    weight = torch.empty(layer.outputs, layer.inputs, dtype=torch.float64)
    for size, blocks in blocks_by_size(layer.outputs, layer.inputs).items():
        name = f"{prefix}.blocks{size}"
        unitary = rebuild(_phases(settings, name)).real
        put_blocks(weight, blocks, settings[f"{name}.attenuation"].unsqueeze(-1) * unitary)
    return weight
