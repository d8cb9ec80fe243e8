"""Storage of ONNs: ``model.safetensors`` and ``card.json``, checked on loading."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from optinc.errors import ArtifactError, ConfigurationError
from optinc.onn.approximation import check_form, layer_form
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation, share_wrong
from optinc.onn.hardware import hardware_name
from optinc.onn.network import OpticalNetwork
from optinc.photonics import area
from optinc.signal.rounding import Rounding
from optinc.signal.scenario import MAX_TABLE_ENTRIES, Downlink, Scenario

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"


@dataclass(frozen=True)
class ONNCard:
    """Description of a stored ONN: with the weights, enough to use it and recompute its accuracy.

    Layer 1 receives ``A_k * input_scale + input_offset``; ReLU stands between the layers; the
    received symbol is ``clamp(round(out * output_scale + output_offset), 0, 3)``. Where the decimal
    part is kept, the last output is received in steps of 1/d with d = servers^level:
    ``clamp(round((out * output_scale + output_offset) * d), 0, 4 d - 1) / d``.

    Attributes:
        bits, servers, symbols, inputs, group, rounding: The scenario (B, N, M, K, g, Q).
        structure: Widths of all layers.
        approximated_layers: 1-based layers in Sigma U form.
        activation: Nonlinearity between the layers, ``relu``.
        input_scale, input_offset, output_scale, output_offset: Scales of the first and last layer,
            as in the formulas above.
        exhaustive_inputs: Number of possible inputs.
        evaluated_inputs: Number of evaluated inputs: all, unless there are too many.
        wrong_inputs: Number of evaluated inputs that are received wrong.
        error_values: Received minus ideal code, in units of the last place -> count (Table II).
        smallest_margin: Smallest distance of an output from a receiver threshold, in PAM4
            amplitudes.
        mzi_count: MZIs of all layers as the paper counts them, without biases and without units P
            and T. What is built follows from the weights: :attr:`ONNArtifact.parts`.
        interface_mzi_count: MZIs of units P and T in SVD form.
        area_ratio: MZIs of the switch (with P and T) relative to the unapproximated one.
        seed: Seed of the training.
        epochs: Epochs trained.
        seconds: Wall time of the training in s, including the ONN it started from.
        hardware: Name of the hardware it was trained on.
        command: The command that trained it.
        weights_sha256: SHA-256 of ``model.safetensors``.
        level: 1-based level in a cascade, 1 where there is none.
        keeps_decimal: Whether the decimal part is kept, below the top of a cascade (eq. 10).
        downlink: What goes back to the servers: the average ``quantised`` by Q, or with its
            ``decimal`` part, as the PAM4 symbols of the sum of all codes.
        imported_sha256: SHA-256 of the weights that were imported, as a safetensors file; None for
            an ONN that was trained or constructed here. Of an imported one seed, epochs, seconds
            and hardware of the training are not known.
    """

    bits: int
    servers: int
    symbols: int
    inputs: int
    group: int
    rounding: Rounding
    structure: tuple[int, ...]
    approximated_layers: tuple[int, ...]
    activation: str
    input_scale: float
    input_offset: float
    output_scale: float
    output_offset: float
    exhaustive_inputs: int
    evaluated_inputs: int
    wrong_inputs: int
    error_values: dict[int, int]
    smallest_margin: float
    mzi_count: int
    interface_mzi_count: int
    area_ratio: float
    seed: int
    epochs: int
    seconds: float
    hardware: str
    command: str
    weights_sha256: str
    level: int = 1
    keeps_decimal: bool = False
    downlink: Downlink = "quantised"
    imported_sha256: str | None = None

    @property
    def scenario(self) -> Scenario:
        """The switch that this ONN serves."""
        return Scenario(
            bits=self.bits,
            servers=self.servers,
            onn_inputs=self.inputs,
            rounding=self.rounding,
            level=self.level,
            keeps_decimal=self.keeps_decimal,
            downlink=self.downlink,
        )

    @property
    def accuracy(self) -> float:
        """Share of the evaluated inputs that are received right."""
        return 1.0 - self.wrong_inputs / self.evaluated_inputs

    def warn_of_wrong_inputs(self) -> None:
        """Log a warning if inputs are known to be received wrong; called where an ONN is used."""
        if self.wrong_inputs:
            logger.warning(
                "the ONN with SHA-256 %s... receives %s wrong; with optinc/fidelity=ideal none is",
                self.weights_sha256[:12],
                share_wrong(self.wrong_inputs, self.evaluated_inputs),
            )

    @classmethod
    def from_json(cls, text: str) -> ONNCard:
        """Parse and check the text of ``card.json``.

        Raises:
            ArtifactError: If a key is missing, or the values contradict each other; says which.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            # Cards of switches outside a cascade may lack the keys that have defaults. Other keys
            # are ignored: older cards hold a count with biases, which follows from the weights.
            required = {field.name for field in fields(cls) if field.default is MISSING}
            missing = required - values.keys()
            if missing:
                raise ArtifactError(f"metadata check failed: no {', '.join(sorted(missing))}")
            values = {f.name: values[f.name] for f in fields(cls) if f.name in values}
            values["structure"] = tuple(values["structure"])
            values["approximated_layers"] = tuple(values["approximated_layers"])
            values["error_values"] = {int(k): v for k, v in values["error_values"].items()}
            card = cls(**values)
            card._check()
        except (ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"metadata check failed: {error}") from error
        return card

    def _check(self) -> None:
        """Raise ConfigurationError where values contradict each other."""
        scenario = self.scenario
        expected = {
            "symbols": scenario.symbols,
            "group": scenario.group,
            "exhaustive_inputs": scenario.combinations,
            "activation": OpticalNetwork.activation,
            "wrong_inputs": sum(self.error_values.values()),
        }
        for key, value in expected.items():
            if getattr(self, key) != value:
                raise ConfigurationError(f"{key} is {getattr(self, key)}, expected {value}")
        if self.evaluated_inputs < self.exhaustive_inputs <= MAX_TABLE_ENTRIES:
            raise ConfigurationError(
                f"evaluated_inputs is {self.evaluated_inputs}, but all {self.exhaustive_inputs} "
                "inputs can be evaluated"
            )
        if (self.structure[0], self.structure[-1]) != (self.inputs, scenario.received_symbols):
            raise ConfigurationError(
                f"structure {self.structure} does not map {self.inputs} inputs to "
                f"{scenario.received_symbols} symbols"
            )
        layers = self.approximated_layers
        if list(layers) != sorted(set(layers) & set(range(1, len(self.structure)))):
            raise ConfigurationError(
                f"approximated_layers is {list(layers)}, expected ascending layers within "
                f"1..{len(self.structure) - 1}"
            )
        for key, value in _area_fields(scenario, self.structure, layers).items():
            if not math.isclose(getattr(self, key), value, rel_tol=1e-9):
                raise ConfigurationError(f"{key} is {getattr(self, key)}, expected {value}")


@dataclass(frozen=True)
class ONNArtifact:
    """A stored ONN.

    Attributes:
        network: The network, float32, without gradients.
        card: Its description.
    """

    network: OpticalNetwork
    card: ONNCard

    @property
    def parts(self) -> area.PartCounts:
        """The parts that the layers are built of, biases as ports of SVD layers.

        They follow from the weights, since diagonal layers need no mesh: no card stores them.
        """
        return area.total_parts(
            area.layer_parts(
                linear.out_features,
                linear.in_features,
                form=layer_form(linear.weight, approximated=index in self.card.approximated_layers),
                bias="port",
            )
            for index, linear in enumerate(self.network.linears, start=1)
        )

    @classmethod
    def load(cls, folder: Path | str) -> ONNArtifact:
        """Load and check a stored ONN.

        Args:
            folder: Folder of ``model.safetensors`` and ``card.json``.

        Raises:
            ArtifactError: If a file is missing, or the check of its SHA-256, format, shapes,
                finiteness, metadata or structure (Sigma U layers) fails; says which.
        """
        folder = Path(folder)
        for name in (WEIGHTS_FILE, CARD_FILE):
            if not (folder / name).is_file():
                raise ArtifactError(f"{folder} is no ONN artifact: it has no {name}")
        try:
            card = ONNCard.from_json((folder / CARD_FILE).read_text(encoding="utf-8"))
        except (ArtifactError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{folder / CARD_FILE}: {error}") from error
        network = network_of(card)
        network.load_state_dict(_read_weights(folder / WEIGHTS_FILE, card, network))
        try:
            check_form(network.linears, card.approximated_layers)
        except ArtifactError as error:
            raise ArtifactError(f"{folder / WEIGHTS_FILE}: {error}") from error
        return cls(network=network.eval().requires_grad_(False), card=card)


def _read_weights(path: Path, card: ONNCard, network: OpticalNetwork) -> dict[str, Tensor]:
    """Read the weights of a network, and check their SHA-256, format, shapes and finiteness."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.weights_sha256:
        raise ArtifactError(
            f"{path}: SHA-256 check failed: the card says {card.weights_sha256}, "
            f"the file has {digest}"
        )
    try:
        weights = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ArtifactError(f"{path}: format check failed: {error}") from error
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if found != expected:
        raise ArtifactError(f"{path}: shape check failed: expected {expected}, found {found}")
    for name, value in weights.items():
        if value.dtype != torch.float32 or not torch.isfinite(value).all():
            raise ArtifactError(f"{path}: finiteness check failed: {name} must be finite float32")
    return weights


def network_of(card: ONNCard) -> OpticalNetwork:
    """Build the network that a card describes, with random weights."""
    return OpticalNetwork(
        card.structure,
        input_scale=card.input_scale,
        input_offset=card.input_offset,
        output_scale=card.output_scale,
        output_offset=card.output_offset,
    )


def save_artifact(
    folder: Path | str,
    *,
    network: OpticalNetwork,
    design: ONNDesign,
    evaluation: Evaluation,
    seed: int,
    epochs: int,
    seconds: float,
    device: torch.device,
    command: str,
    imported_sha256: str | None = None,
) -> ONNArtifact:
    """Write an ONN, and read it back.

    Args:
        folder: Folder of the two files, created if missing.
        network: The network, its approximated layers already projected.
        design: Scenario, structure and approximated layers.
        evaluation: Evaluation of exactly these weights.
        seed: Seed of the training.
        epochs: Epochs trained, 0 for a constructed ONN.
        seconds: Wall time of the training in s.
        device: Device of the training.
        command: The command that trained it.
        imported_sha256: SHA-256 of the weights that were imported; None if they were made here.

    Returns:
        The ONN as loaded from the folder.

    Raises:
        ArtifactError: If a layer that the design approximates is not in Sigma U form.
    """
    check_form(network.linears, design.approximated_layers)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    data = safetensors.torch.save(weights)
    card = _card(
        network,
        design,
        evaluation,
        seed=seed,
        epochs=epochs,
        seconds=round(seconds, 1),
        hardware=hardware_name(device) if imported_sha256 is None else "unknown",
        command=command,
        weights_sha256=hashlib.sha256(data).hexdigest(),
        imported_sha256=imported_sha256,
    )
    (folder / WEIGHTS_FILE).write_bytes(data)
    (folder / CARD_FILE).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    return ONNArtifact.load(folder)


def unstored(network: OpticalNetwork, design: ONNDesign) -> ONNArtifact:
    """Describe a network that is neither stored nor evaluated, such as one in training.

    Args:
        network: The network, its approximated layers already projected; not copied.
        design: Scenario, structure and approximated layers.

    Returns:
        An ONN to map to a chip and to draw chips of. Its card has no evaluated input and no hash.
    """
    evaluation = Evaluation(
        combinations=design.scenario.combinations,
        evaluated_inputs=0,
        wrong_inputs=0,
        error_values={},
        smallest_margin=0.0,
    )
    card = _card(
        network,
        design,
        evaluation,
        seed=0,
        epochs=0,
        seconds=0.0,
        hardware="",
        command="",
        weights_sha256="",
    )
    return ONNArtifact(network=network, card=card)


def _card(
    network: OpticalNetwork, design: ONNDesign, evaluation: Evaluation, **origin: Any
) -> ONNCard:
    """Return the card of a network; ``origin`` are the fields that say where it is from."""
    return ONNCard(
        **_design_fields(design),
        **_evaluation_fields(evaluation),
        activation=network.activation,
        input_scale=network.input_scale,
        input_offset=network.input_offset,
        output_scale=network.output_scale,
        output_offset=network.output_offset,
        **origin,
    )


def _design_fields(design: ONNDesign) -> dict[str, Any]:
    """Return the fields of a card that follow from the design: scenario, structure and area."""
    scenario, structure, layers = design.scenario, design.structure, design.approximated_layers
    return {
        "bits": scenario.bits,
        "servers": scenario.servers,
        "symbols": scenario.symbols,
        "inputs": scenario.onn_inputs,
        "group": scenario.group,
        "rounding": scenario.rounding,
        "level": scenario.level,
        "keeps_decimal": scenario.keeps_decimal,
        "downlink": scenario.downlink,
        "structure": structure,
        "approximated_layers": layers,
        **_area_fields(scenario, structure, layers),
    }


def _area_fields(
    scenario: Scenario, structure: tuple[int, ...], layers: tuple[int, ...]
) -> dict[str, float]:
    """Return the fields of a card that hold its area."""
    return {
        "mzi_count": area.network_mzis(structure, layers),
        "interface_mzi_count": area.interface_mzis(
            servers=scenario.servers,
            symbols=scenario.symbols,
            onn_inputs=scenario.onn_inputs,
            received_symbols=scenario.received_symbols,
        ),
        "area_ratio": area.area_ratio(
            structure, layers, servers=scenario.servers, symbols=scenario.symbols
        ),
    }


def _evaluation_fields(evaluation: Evaluation) -> dict[str, Any]:
    """Return the fields of a card that hold its accuracy."""
    return {
        "exhaustive_inputs": evaluation.combinations,
        "evaluated_inputs": evaluation.evaluated_inputs,
        "wrong_inputs": evaluation.wrong_inputs,
        "error_values": evaluation.error_values,
        "smallest_margin": evaluation.smallest_margin,
    }
