"""Settings of all meshes of an ONN: from weights to phases and attenuations, and back (Fig. 2).

A layer is built in one of three forms. ``svd``: a mesh for V^T, one attenuator per singular value,
and a mesh for U. ``sigma_u``: for every square block, a mesh for U_a and one attenuator per row;
inputs are split to the blocks, or the blocks' outputs combined, which takes 1/sqrt(k) of the
amplitude (:func:`optinc.photonics.area.block_shares`). ``diagonal``: the same without meshes, for
weights whose blocks are diagonal.

The bias is a reference beam. ``port``: one more input of an SVD layer's mesh. ``attenuator``: split
to the outputs, and attenuated there; layers without an SVD always have this one.

Passive light only loses power, so every output has a gain behind its detector, in the amplifier
that drives the next layer's modulator. It is the same for all outputs of a layer, and all
attenuations are at most 1.
"""

# Shape suffixes: m outputs, n inputs, p input ports (n, or n + 1 with the reference beam).

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.errors import ArtifactError
from optinc.onn.approximation import blocks_by_size, factorize, put_blocks, take_blocks
from optinc.onn.artifact import ONNArtifact, ONNCard, network_of
from optinc.onn.network import OpticalNetwork
from optinc.photonics import area
from optinc.photonics.chip_settings import BiasForm, Hardware
from optinc.photonics.decomposition import MeshPhases, decompose, rebuild

LayerForm = Literal["svd", "sigma_u", "diagonal"]

SETTINGS_FILE = "programme.safetensors"
DESCRIPTION_FILE = "programme.json"

REBUILT_TOLERANCE = 1e-5
"""Share of a layer's largest weight by which weights rebuilt from mesh settings may differ."""


FORMAT = 2
"""Version of stored settings; 2 has hardware and bias, and gains that make up for splitters."""


@dataclass(frozen=True)
class LayerDescription:
    """Form, size and gain of a layer.

    Attributes:
        form: ``svd`` (U S V^T), ``sigma_u`` (eq. 4) or ``diagonal``.
        outputs: Outputs m.
        inputs: Inputs n, without the port of a reference beam.
        bias: ``port`` or ``attenuator``.
        gain: Amplitude gain behind every detector, splitters and combiners made up for.
        reference: Amplitude of the reference beam in units of the layer's inputs: at its port, or
            at each output before its attenuator.
    """

    form: LayerForm
    outputs: int
    inputs: int
    bias: BiasForm
    gain: float
    reference: float

    @property
    def gain_db(self) -> float:
        """The gain in dB: of the electrical amplifier that provides it."""
        return 20 * math.log10(self.gain)

    @property
    def mzi_count(self) -> int:
        """Number of interferometers as the paper counts them, a mesh in every layer, no bias."""
        count = area.svd_mzis if self.form == "svd" else area.approximated_mzis
        return count(self.outputs, self.inputs)

    @property
    def optical_depth(self) -> int:
        """Number of interferometers that light crosses, an attenuator counted as one."""
        if self.form == "diagonal":
            return 1
        return area.layer_depth(
            self.outputs,
            self.inputs + (self.bias == "port"),
            approximated=self.form == "sigma_u",
        )


@dataclass(frozen=True)
class MeshProgramme:
    """Settings of all meshes of an ONN.

    Attributes:
        card: Card of the ONN.
        layers: Descriptions of all layers.
        settings: float64 tensors by name: ``layers.<i>.<mesh>.theta | phi | output`` in rad, where
            <mesh> is ``left`` (U) or ``right`` (V^T), or ``blocks<s>`` for all blocks of size s;
            ``layers.<i>.attenuation`` [min(m, p)] of an SVD, 0 to 1;
            ``layers.<i>.blocks<s>.attenuation`` [blocks, s], 0 to 1, or -1 to 1 in a diagonal
            layer; and ``layers.<i>.bias`` [m], -1 to 1, where the bias is an attenuator.
        hardware: Form of the interferometers that the phases are for.
        bias: Form of the bias of SVD layers.
    """

    card: ONNCard
    layers: tuple[LayerDescription, ...]
    settings: dict[str, Tensor]
    hardware: Hardware = "push_pull"
    bias: BiasForm = "port"

    def phases(self, name: str) -> MeshPhases:
        """Return the phases of a mesh, for example ``layers.0.left`` or ``layers.2.blocks64``."""
        return MeshPhases(
            theta_BE=self.settings[f"{name}.theta"],
            phi_BE=self.settings[f"{name}.phi"],
            output_Bn=self.settings[f"{name}.output"],
            hardware=self.hardware,
        )

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
            "format": FORMAT,
            "onn": asdict(self.card),
            "hardware": self.hardware,
            "bias": self.bias,
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
            ArtifactError: If a file is missing or damaged, or written by an older version.
        """
        folder = Path(folder)
        try:
            description: dict[str, Any] = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
            _check_format(folder, description)
            return cls(
                card=ONNCard.from_json(json.dumps(description["onn"])),
                layers=tuple(LayerDescription(**layer) for layer in description["layers"]),
                settings=safetensors.torch.load_file(folder / SETTINGS_FILE),
                hardware=description["hardware"],
                bias=description["bias"],
            )
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"{folder} holds no mesh programme: {error}") from error


def _check_format(folder: Path, description: dict[str, Any]) -> None:
    """Refuse settings of another version: their gains, biases and phases mean something else.

    Raises:
        ArtifactError: Says how to write them anew.
    """
    version = description.get("format", 1)
    if "layers" in description and version != FORMAT:
        raise ArtifactError(
            f"{folder} holds mesh settings in format {version}, this version reads format "
            f"{FORMAT}; write them anew: python run.py task=map_onn onn=NAME_OR_FOLDER"
        )


@torch.no_grad()
def map_onn(
    onn: ONNArtifact, *, hardware: Hardware = "push_pull", bias: BiasForm = "port"
) -> MeshProgramme:
    """Compute the settings of all meshes of an ONN.

    Args:
        onn: The ONN.
        hardware: Form of the interferometers.
        bias: Form of the bias of SVD layers; other layers attenuate a split reference beam.

    Returns:
        The settings; playing them gives the weights and biases of the ONN.
    """
    settings: dict[str, Tensor] = {}
    layers = []
    for i, linear in enumerate(onn.network.linears):
        form = form_of(linear.weight, approximated=i + 1 in onn.card.approximated_layers)
        mapped = _map_svd if form == "svd" else _map_blocks
        found, layer = mapped(linear, form=form, hardware=hardware, bias=bias)
        settings |= {f"layers.{i}.{name}": value.contiguous() for name, value in found.items()}
        layers.append(layer)
    return MeshProgramme(
        card=onn.card, layers=tuple(layers), settings=settings, hardware=hardware, bias=bias
    )


def form_of(weight_mn: Tensor, *, approximated: bool) -> LayerForm:
    """Return the form in which a layer is built.

    Args:
        weight_mn: Weight [m, n].
        approximated: Whether the layer is in Sigma U form.
    """
    if not approximated:
        return "svd"
    for blocks in blocks_by_size(*weight_mn.shape).values():
        values_Bss = take_blocks(weight_mn, blocks)
        diagonal_Bs = torch.diagonal(values_Bss, dim1=-2, dim2=-1)
        if not values_Bss.equal(torch.diag_embed(diagonal_Bs)):
            return "sigma_u"
    return "diagonal"


def _map_svd(
    linear: nn.Linear, *, form: LayerForm, hardware: Hardware, bias: BiasForm
) -> tuple[dict[str, Tensor], LayerDescription]:
    """Return the settings and the description of a layer in SVD form."""
    weight_mp, offset_m = linear.weight.double(), linear.bias.double()
    reference = 1.0
    if bias == "port":
        # As strong as the signal that the layer would turn into an output as large as the bias.
        strongest = float(torch.linalg.matrix_norm(weight_mp, 2)) or 1.0
        reference = float(offset_m.norm()) / strongest or 1.0
        weight_mp = torch.cat([weight_mp, offset_m.unsqueeze(1) / reference], dim=1)
    left_mm, singular, right_pp = torch.linalg.svd(weight_mp)
    gain = float(singular.max()) or 1.0
    settings = {"attenuation": singular / gain}
    settings |= _named("left", decompose(left_mm.unsqueeze(0), hardware=hardware))
    settings |= _named("right", decompose(right_pp.unsqueeze(0), hardware=hardware))
    if bias == "attenuator":
        settings["bias"], reference = _attenuated(offset_m, gain)
    return settings, _described(linear, form=form, bias=bias, gain=gain, reference=reference)


def _map_blocks(
    linear: nn.Linear, *, form: LayerForm, hardware: Hardware, bias: BiasForm
) -> tuple[dict[str, Tensor], LayerDescription]:
    """Return the settings and the description of a layer in Sigma U or diagonal form."""
    del bias
    weight_mn = linear.weight.double()
    shares = area.block_shares(*weight_mn.shape)
    scales: dict[int, Tensor] = {}
    settings: dict[str, Tensor] = {}
    for size, blocks in blocks_by_size(*weight_mn.shape).items():
        values_Bss = take_blocks(weight_mn, blocks)
        if form == "diagonal":
            scale_Bs = torch.diagonal(values_Bss, dim1=-2, dim2=-1)
        else:
            scale_Bs, unitary_Bss = factorize(values_Bss)
            settings |= _named(f"blocks{size}", decompose(unitary_Bss, hardware=hardware))
        scales[size] = scale_Bs * math.sqrt(shares[size])
    gain = max(float(scale_Bs.abs().max()) for scale_Bs in scales.values()) or 1.0
    for size, scale_Bs in scales.items():
        settings[f"blocks{size}.attenuation"] = scale_Bs / gain
    settings["bias"], reference = _attenuated(linear.bias.double(), gain)
    layer = _described(linear, form=form, bias="attenuator", gain=gain, reference=reference)
    return settings, layer


def _attenuated(offset_m: Tensor, gain: float) -> tuple[Tensor, float]:
    """Return attenuations of a reference beam, -1 to 1, and its amplitude at the outputs."""
    reference = float(offset_m.abs().max()) / gain or 1.0
    return (offset_m / (gain * reference)).clamp(-1.0, 1.0), reference


def _described(
    linear: nn.Linear, *, form: LayerForm, bias: BiasForm, gain: float, reference: float
) -> LayerDescription:
    return LayerDescription(
        form=form,
        outputs=linear.out_features,
        inputs=linear.in_features,
        bias=bias,
        gain=gain,
        reference=reference,
    )


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


@torch.no_grad()
def rebuild_network(programme: MeshProgramme) -> OpticalNetwork:
    """Rebuild the float32 network of an ONN from the settings of its meshes.

    A homodyne detector sees the real part of the field that arrives, so the weights are the real
    part of the product of meshes and attenuators, not the product of their real parts.
    """
    network = network_of(programme.card)
    state = {}
    for i, layer in enumerate(programme.layers):
        seen = layer.gain * transfer_matrix(programme, i).real
        state[f"layers.{i}.weight"] = seen[:, : layer.inputs]
        state[f"layers.{i}.bias"] = layer.reference * seen[:, layer.inputs]
    network.load_state_dict({name: value.float() for name, value in state.items()})
    return network.eval().requires_grad_(False)


def transfer_matrix(programme: MeshProgramme, index: int) -> Tensor:
    """Return what the passive light of a layer does, from its inputs to its detectors.

    Splitters and combiners leave 1/sqrt(k) of the amplitude. No singular value of the columns of
    the inputs exceeds 1.

    Args:
        programme: Settings of all meshes.
        index: 0-based layer.

    Returns:
        complex128 [m, n + 1]: amplitudes at the outputs for unit amplitudes at the inputs; the last
        column is that of the reference beam.
    """
    layer, prefix = programme.layers[index], f"layers.{index}"
    if layer.form == "svd":
        transfer_mp = _transfer_of_svd(programme, prefix)
    else:
        transfer_mp = _transfer_of_blocks(programme, prefix, layer)
    if layer.bias == "attenuator":
        bias_m1 = programme.settings[f"{prefix}.bias"].unsqueeze(1)
        transfer_mp = torch.cat([transfer_mp, bias_m1.to(transfer_mp.dtype)], dim=1)
    return transfer_mp


def _transfer_of_svd(programme: MeshProgramme, prefix: str) -> Tensor:
    left_mm = rebuild(programme.phases(f"{prefix}.left"))[0]
    right_pp = rebuild(programme.phases(f"{prefix}.right"))[0]
    attenuation = programme.settings[f"{prefix}.attenuation"]
    rank = len(attenuation)
    return left_mm[:, :rank] * attenuation @ right_pp[:rank]


def _transfer_of_blocks(programme: MeshProgramme, prefix: str, layer: LayerDescription) -> Tensor:
    transfer_mn = torch.zeros(layer.outputs, layer.inputs, dtype=torch.complex128)
    shares = area.block_shares(layer.outputs, layer.inputs)
    for size, blocks in blocks_by_size(layer.outputs, layer.inputs).items():
        name = f"{prefix}.blocks{size}"
        passed_Bs = programme.settings[f"{name}.attenuation"] / math.sqrt(shares[size])
        if layer.form == "diagonal":
            put_blocks(transfer_mn, blocks, torch.diag_embed(passed_Bs))
        else:
            put_blocks(
                transfer_mn, blocks, passed_Bs.unsqueeze(-1) * rebuild(programme.phases(name))
            )
    return transfer_mn
