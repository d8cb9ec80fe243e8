"""ONNs whose weights were trained elsewhere, as a plain ``nn.Sequential`` of Linear and ReLU.

    nn.Sequential, or its state dict in a file --> structure, scales, Sigma U --> evaluated, stored

The state dict has the keys ``0.weight``, ``0.bias``, ``2.weight``, ... since a ReLU, which has no
weights, stands between two Linear layers. Files are safetensors, which cannot execute code.
"""

# Shape suffixes: m outputs, n inputs.

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.errors import ArtifactError, ConfigurationError
from optinc.folders import expanded
from optinc.onn.approximation import check_form, project_layers
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.signal.rounding import ROUNDINGS, Rounding
from optinc.signal.scenario import Scenario, legal_inputs

LEGAL_MODULES = "Linear, ReLU, Linear, ..., Linear"

LEGAL_FILE = (
    "a safetensors file with the state dict of an nn.Sequential of Linear and ReLU in turn: "
    'safetensors.torch.save_file(model.state_dict(), "mine.safetensors")'
)


class ImportedNetwork(NamedTuple):
    """A network with imported weights.

    Attributes:
        network: The network, float32 on the CPU, its approximated layers in Sigma U form.
        design: Scenario, structure and approximated layers.
        sha256: SHA-256 of the weights as they were given, as a safetensors file.
    """

    network: OpticalNetwork
    design: ONNDesign
    sha256: str

    def save(self, folder: Path | str) -> ONNArtifact:
        """Evaluate all inputs, and write the ONN with its card.

        Args:
            folder: Folder of ``model.safetensors`` and ``card.json``, created if missing; its path
                is what ``onn=`` takes.

        Returns:
            The stored ONN; ``card.wrong_inputs`` says how many inputs it receives wrong.
        """
        return save_artifact(
            folder,
            network=self.network,
            design=self.design,
            evaluation=evaluate(self.network, self.design.scenario),
            seed=0,
            epochs=0,
            seconds=0.0,
            device=torch.device("cpu"),
            command="optinc.onn.importing.import_network",
            imported_sha256=self.sha256,
        )


def import_network(
    weights: nn.Sequential | Path | str | None,
    *,
    design: ONNDesign,
    activation: str = OpticalNetwork.activation,
    input_scale: float | None = None,
    input_offset: float | None = None,
    output_scale: float | None = None,
    output_offset: float | None = None,
    project: bool = False,
) -> ImportedNetwork:
    """Build an ONN from weights that were trained elsewhere.

    Weights may have any size: every layer of a chip has a gain of its own, see
    :mod:`optinc.onn.layer_factors`. What the network was trained on decides its scales: it receives
    ``A_k * input_scale + input_offset`` for the averages A_k in PAM4 amplitudes of a merged group,
    0 to 4^g - 1, and the receivers take ``output * output_scale + output_offset`` for a symbol.

    Args:
        weights: The network, or a safetensors file with its state dict; None is refused.
        design: Scenario, structure and approximated layers that the weights must fit.
        activation: What stands between the Linear layers, which a file does not say.
        input_scale: None for that of ``task=train_onn``, 2 / (4^g - 1).
        input_offset: None for -1: inputs lie within -1 to 1.
        output_scale: None for 1.5.
        output_offset: None for 1.5: outputs within -1 to 1 are the symbols 0 to 3.
        project: Replace the approximated layers by the nearest weights in Sigma U form (eq. 4);
            otherwise they must have this form.

    Raises:
        ConfigurationError: If the weights are none, are not those of such a network, do not fit the
            design, or a value is illegal; names the setting and the legal values.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from optinc import make_scenario
        >>> from optinc.onn.design import ONNDesign
        >>> from optinc.onn.importing import import_network
        >>> scenario = make_scenario(bits=2, servers=4, onn_inputs=1, rounding="floor")
        >>> design = ONNDesign.from_settings(scenario=scenario, hidden=[8], layers="none")
        >>> model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> onn = import_network(model, design=design).save(tempfile.mkdtemp())
        >>> onn.card.structure, onn.card.evaluated_inputs
        ((1, 8, 1), 13)
    """
    if activation != OpticalNetwork.activation:
        raise ConfigurationError(
            f"onn_import.activation must be {OpticalNetwork.activation}, the only one that an ONN "
            f"has between its layers, got {activation!r}"
        )
    tensors, data, name = _read(weights)
    layers = _layers(tensors, name)
    structure = (layers[0][0].shape[1], *(weight_mn.shape[0] for weight_mn, _ in layers))
    _check_structure(structure, design, name)
    given = {
        "input_scale": input_scale,
        "input_offset": input_offset,
        "output_scale": output_scale,
        "output_offset": output_offset,
    }
    scales = {name: _scale(name, given[name], usual) for name, usual in design.scales.items()}
    network = OpticalNetwork(design.structure, **scales)
    with torch.no_grad():
        for linear, (weight_mn, bias_m) in zip(network.linears, layers, strict=True):
            linear.weight.copy_(weight_mn)
            linear.bias.copy_(bias_m)
    if project:
        project_layers(network.linears, design.approximated_layers)
    _check_form(network, design, name)
    network.eval().requires_grad_(False)
    return ImportedNetwork(network, design, hashlib.sha256(data).hexdigest())


def fitting_rounding(
    network: OpticalNetwork, scenario: Scenario, *, wrong: int
) -> tuple[Rounding, int] | None:
    """Return the rounding that a network was taught, if another than its scenario's, by its errors.

    Args:
        network: A network that receives inputs wrong.
        scenario: The switch it was imported for.
        wrong: How many inputs it receives wrong with the scenario's own rounding.

    Returns:
        The rounding under which fewest inputs are wrong, and how many; None where that is not less
        than half, or inputs cannot be enumerated.
    """
    if scenario.keeps_decimal or scenario.returns_sum or not scenario.tabulable:
        return None
    found = {
        rounding: evaluate_exhaustively(
            network, replace(scenario, rounding=rounding), most_wrong=wrong
        ).wrong_inputs
        for rounding in ROUNDINGS
        if rounding != scenario.rounding
    }
    best = min(found, key=lambda rounding: found[rounding])
    return (best, found[best]) if 2 * found[best] < wrong else None


def _read(weights: nn.Sequential | Path | str | None) -> tuple[dict[str, Tensor], bytes, str]:
    """Return a state dict, its bytes as a safetensors file, and what messages call it."""
    if isinstance(weights, nn.Sequential):
        _check_modules(weights)
        # Copies: a layer that stands in it twice is two layers of meshes.
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in weights.state_dict().items()
        }
        return tensors, safetensors.torch.save(tensors), "the nn.Sequential"
    if isinstance(weights, nn.Module):
        raise ConfigurationError(
            f"weights must be an nn.Sequential of {LEGAL_MODULES}, got {type(weights).__name__}"
        )
    if weights is None:
        raise ConfigurationError(f"onn_import.weights must be given: {LEGAL_FILE}")
    path, name = expanded(weights), f"onn_import.weights={weights}"
    if not path.is_file():
        raise ConfigurationError(f"{name} is no file; legal is {LEGAL_FILE}")
    data = path.read_bytes()
    try:
        return safetensors.torch.load(data), data, name
    except safetensors.SafetensorError as error:
        raise ConfigurationError(
            f"{name} is no safetensors file ({error}); legal is {LEGAL_FILE}"
        ) from error


def _check_modules(model: nn.Sequential) -> None:
    """Refuse whatever is not Linear and ReLU in turn, with a Linear at both ends."""
    fits = len(model) % 2 == 1 and all(
        isinstance(module, nn.ReLU if i % 2 else nn.Linear) for i, module in enumerate(model)
    )
    if not fits:
        found = ", ".join(type(module).__name__ for module in model) or "no module"
        raise ConfigurationError(
            f"weights must be an nn.Sequential of {LEGAL_MODULES}, got {found}"
        )


def _layers(tensors: Mapping[str, Tensor], name: str) -> list[tuple[Tensor, Tensor]]:
    """Return weights [m, n] and biases [m] of a state dict in float32; a missing bias is 0.

    Raises:
        ConfigurationError: If it is that of another network; names the key.
    """
    found = {key: re.fullmatch(r"(\d+)\.(?:weight|bias)", key) for key in tensors}
    foreign = [key for key, match in found.items() if match is None]
    if foreign or not found:
        raise ConfigurationError(
            f"{name} holds {foreign[0] if foreign else 'nothing'}; legal are 0.weight, 0.bias, "
            f"2.weight, ...: {LEGAL_FILE}"
        )
    places = sorted({int(match[1]) for match in found.values() if match is not None})
    if places != list(range(0, 2 * len(places), 2)):
        raise ConfigurationError(
            f"{name} has layers at {places}; legal are 0, 2, 4, ..., with a ReLU, and nothing "
            "else, between two Linear layers"
        )
    layers: list[tuple[Tensor, Tensor]] = []
    for place in places:
        weight_mn = tensors.get(f"{place}.weight")
        if weight_mn is None or weight_mn.ndim != 2:
            raise ConfigurationError(f"{name} has no matrix {place}.weight: {LEGAL_FILE}")
        m, n = weight_mn.shape
        bias_m = tensors.get(f"{place}.bias", weight_mn.new_zeros(m))
        if bias_m.shape != (m,) or (layers and len(layers[-1][1]) != n) or not m * n:
            raise ConfigurationError(
                f"{name}: {place}.weight {[m, n]} does not fit its bias {list(bias_m.shape)} or "
                "the outputs of the layer before"
            )
        layers.append((_float32(weight_mn, place, name), _float32(bias_m, place, name)))
    return layers


def _float32(tensor: Tensor, place: int, name: str) -> Tensor:
    """Return weights in float32, in which an ONN is evaluated and stored."""
    converted = tensor.to(torch.float32)
    if not tensor.is_floating_point() or not converted.isfinite().all():
        raise ConfigurationError(
            f"{name}: layer {place} must hold finite floats within the range of float32"
        )
    return converted


def _check_structure(structure: tuple[int, ...], design: ONNDesign, name: str) -> None:
    """Refuse widths other than those of the design.

    Raises:
        ConfigurationError: Names each setting that asks for others.
    """
    if structure == design.structure:
        return
    scenario, found = design.scenario, "-".join(map(str, structure))
    asked = "-".join(map(str, design.structure))
    remedies = []
    if structure[0] != scenario.onn_inputs:
        remedies.append(
            f"it has {structure[0]} inputs, optinc.preprocessing.inputs asks for "
            f"{scenario.onn_inputs} (legal for optinc.bits={scenario.bits}: "
            f"{legal_inputs(scenario.symbols)})"
        )
    if structure[-1] != scenario.received_symbols:
        remedies.append(
            f"it has {structure[-1]} outputs, but {scenario.received_symbols} symbols come back "
            f"with optinc.bits={scenario.bits} and optinc.downlink={scenario.downlink}"
        )
    if structure[1:-1] != design.structure[1:-1]:
        hidden = ",".join(map(str, structure[1:-1]))
        remedies.append(f"its hidden widths are optinc.mesh.hidden=[{hidden}]")
    raise ConfigurationError(
        f"{name} is a network {found}, but the settings ask for {asked}: {'; '.join(remedies)}"
    )


def _check_form(network: OpticalNetwork, design: ONNDesign, name: str) -> None:
    """Refuse approximated layers that are not in Sigma U form."""
    try:
        check_form(network.linears, design.approximated_layers)
    except ArtifactError as error:
        raise ConfigurationError(
            f"{name}: {error}; set onn_import.project=true for the nearest weights in this form, "
            "or optinc/approximation=none, or optinc.approximation.layers to the layers that "
            "have it"
        ) from error


def _scale(name: str, value: float | None, usual: float) -> float:
    """Return a scale or offset, or the usual one in place of None."""
    if value is None:
        return usual
    number = isinstance(value, int | float) and not isinstance(value, bool)
    factor = name.endswith("scale")
    if not number or not math.isfinite(value) or (factor and not value):
        raise ConfigurationError(
            f"onn_import.{name} must be a finite number{' other than 0' * factor}, or null for "
            f"that of task=train_onn ({usual:g}), got {value}"
        )
    return float(value)
