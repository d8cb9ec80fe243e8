"""Settings of all meshes of an ONN: from weights to phases and attenuations, and back (Fig. 2).

What a layer is built of, and what its gain and its reference beam are, says
:mod:`optinc.onn.layer_factors`.
"""

# Shape suffixes: m outputs, n inputs, p input ports (n, or n + 1 with the reference beam),
# B blocks, s size of a block.

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from torch import Tensor

from optinc.commands import run_command
from optinc.errors import ArtifactError
from optinc.onn.approximation import blocks_by_size, put_blocks
from optinc.onn.artifact import ONNArtifact, ONNCard, network_of
from optinc.onn.layer_factors import LayerDescription, factor
from optinc.onn.network import OpticalNetwork
from optinc.photonics import area
from optinc.photonics.chip_settings import BiasForm, Shifters
from optinc.photonics.decomposition import MeshPhases, decompose, rebuild

SETTINGS_FILE = "programme.safetensors"
DESCRIPTION_FILE = "programme.json"

REBUILT_TOLERANCE = 1e-5
"""Share of a layer's largest weight by which weights rebuilt from mesh settings may differ."""


FORMAT = 3
"""Version of stored settings; 3 names the form of the interferometers ``shifters``, and the chips
that settings are for."""


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
            layer; and ``layers.<i>.bias`` [m], -1 to 1, where the bias is an attenuator. Those of
            drawn chips have a leading dimension C. MZIs stand column by column as light meets them,
            each column from the top; ``docs/mesh_settings.md`` describes the files.
        shifters: Form of the interferometers that the phases are for.
        bias: Form of the bias of SVD layers.
        seed: Seed of the drawn chips, from chip 0 on, of which each has settings of its own; None
            if settings are for ideal parts, and the same for all chips.
    """

    card: ONNCard
    layers: tuple[LayerDescription, ...]
    settings: dict[str, Tensor]
    shifters: Shifters = "push_pull"
    bias: BiasForm = "port"
    seed: int | None = None

    @property
    def chips(self) -> int | None:
        """Number C of chips with settings of their own; None where all chips have the same."""
        return None if self.seed is None else len(next(iter(self.settings.values())))

    def layer_phases(self, index: int) -> dict[str, Tensor]:
        """Return all phases of a layer in rad, chips first (one where they are the same for all).

        Args:
            index: 0-based layer.

        Returns:
            float64 [C or 1, ...] by the name of the setting in the layer. Attenuators are given by
            the phase whose sine is the amplitude that they pass.
        """
        layer = self.layers[index]
        phases = {}
        for name in layer.settings:
            value = self.settings[f"layers.{index}.{name}"]
            value = value.unsqueeze(0) if self.seed is None else value
            attenuator = name in layer.attenuator_shapes
            phases[name] = torch.asin(value.clamp(-1.0, 1.0)) if attenuator else value
        return phases

    def with_phases(self, phases: Sequence[Mapping[str, Tensor]], *, seed: int) -> MeshProgramme:
        """Return the same ONN with settings for each chip.

        Args:
            phases: Per layer what :meth:`layer_phases` returns, of C chips.
            seed: Seed of the chips.
        """
        settings = {
            f"layers.{i}.{name}": torch.sin(value) if name in layer.attenuator_shapes else value
            for i, (layer, own) in enumerate(zip(self.layers, phases, strict=True))
            for name, value in own.items()
        }
        settings = {name: value.double().contiguous() for name, value in settings.items()}
        return replace(self, settings=settings, seed=seed)

    def of_chip(self, chip: int) -> MeshProgramme:
        """Return the settings of one chip as settings of ideal parts, to look at what they are."""
        return replace(
            self, settings={name: value[chip] for name, value in self.settings.items()}, seed=None
        )

    def phases(self, name: str) -> MeshPhases:
        """Return the phases of a mesh, for example ``layers.0.left`` or ``layers.2.blocks64``."""
        return MeshPhases(
            theta_BE=self.settings[f"{name}.theta"],
            phi_BE=self.settings[f"{name}.phi"],
            output_Bn=self.settings[f"{name}.output"],
            shifters=self.shifters,
        )

    @property
    def parts(self) -> area.PartCounts:
        """The parts of all layers."""
        return area.total_parts(layer.parts for layer in self.layers)

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
            "shifters": self.shifters,
            "bias": self.bias,
            "seed": self.seed,
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
            programme = cls(
                card=ONNCard.from_json(json.dumps(description["onn"])),
                layers=tuple(LayerDescription(**layer) for layer in description["layers"]),
                settings=safetensors.torch.load_file(folder / SETTINGS_FILE),
                shifters=description["shifters"],
                bias=description["bias"],
                seed=description.get("seed"),
            )
            programme._check()
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"{folder} holds no mesh programme: {error}") from error
        return programme

    def _check(self) -> None:
        """Check that words are known, and that there is a setting of every part and no other.

        Raises:
            ValueError: Says what is wrong.
        """
        words: list[tuple[str, tuple[str, ...]]]
        words = [(self.shifters, get_args(Shifters)), (self.bias, get_args(BiasForm))]
        words += [(layer.form, get_args(area.LayerForm)) for layer in self.layers]
        words += [(layer.bias, get_args(BiasForm)) for layer in self.layers]
        for word, legal in words:
            if word not in legal:
                raise ValueError(f"{word!r} is none of {', '.join(legal)}")
        expected = {
            f"layers.{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.settings
        }
        if wrong := sorted(expected ^ self.settings.keys()):
            raise ValueError(f"settings are missing or do not belong here: {', '.join(wrong)}")
        chips = [] if self.chips is None else [self.chips]
        for i, layer in enumerate(self.layers):
            for name, shape in layer.settings.items():
                found = list(self.settings[f"layers.{i}.{name}"].shape)
                if found != [*chips, *shape]:
                    raise ValueError(
                        f"layers.{i}.{name} has the shape {found}, not {[*chips, *shape]}"
                    )


def _check_format(folder: Path, description: dict[str, Any]) -> None:
    """Refuse settings of another version: their gains, biases and phases mean something else.

    Raises:
        ArtifactError: Says how to write them anew.
    """
    version = description.get("format", 1)
    if "layers" in description and version != FORMAT:
        raise ArtifactError(
            f"{folder} holds mesh settings in format {version}, this version reads format "
            f"{FORMAT}; write them anew: {run_command(['task=map_onn', 'onn=NAME_OR_FOLDER'])}"
        )


@torch.no_grad()
def map_onn(
    onn: ONNArtifact, *, shifters: Shifters = "push_pull", bias: BiasForm = "port"
) -> MeshProgramme:
    """Compute the settings of all meshes of an ONN.

    Args:
        onn: The ONN.
        shifters: Form of the interferometers.
        bias: Form of the bias of SVD layers; other layers attenuate a split reference beam.

    Returns:
        The settings; playing them gives the weights and biases of the ONN.
    """
    settings: dict[str, Tensor] = {}
    layers = []
    for i, linear in enumerate(onn.network.linears):
        factors = factor(linear, approximated=i + 1 in onn.card.approximated_layers, bias=bias)
        found = dict(factors.attenuations)
        for mesh, unitary_Bnn in factors.unitaries.items():
            found |= _named(mesh, decompose(unitary_Bnn, shifters=shifters))
        settings |= {f"layers.{i}.{name}": value.contiguous() for name, value in found.items()}
        layers.append(factors.layer)
    return MeshProgramme(
        card=onn.card, layers=tuple(layers), settings=settings, shifters=shifters, bias=bias
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
    return check_same(rebuild_network(programme), network, built_of="meshes")


def check_same(rebuilt: OpticalNetwork, network: OpticalNetwork, *, built_of: str) -> float:
    """Check a rebuilt network against the one that was mapped, see :func:`check_rebuilt`.

    Args:
        rebuilt: The network that the settings make.
        network: The network that was mapped.
        built_of: What its layers are, for the error.

    Raises:
        ArtifactError: If they differ.
    """
    worst = 0.0
    for index, (new, old) in enumerate(zip(rebuilt.linears, network.linears, strict=True), start=1):
        for name, value in old.named_parameters():
            error = float((new.get_parameter(name) - value).abs().max())
            largest = float(value.abs().max())
            worst = max(worst, error)
            if not error <= REBUILT_TOLERANCE * largest:
                raise ArtifactError(
                    f"the {built_of} of layer {index} do not act as its {name}: they differ by up "
                    f"to {error:.2g}; the largest is {largest:.2g}, of which "
                    f"{REBUILT_TOLERANCE:g} is legal"
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
