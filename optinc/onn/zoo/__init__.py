"""ONNs shipped with the package, found by name, design or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from optinc.errors import ArtifactError, MissingONNError
from optinc.folders import expanded
from optinc.onn.artifact import CARD_FILE, ONNArtifact, ONNCard
from optinc.onn.design import TABLE1_HIDDEN, ONNDesign
from optinc.onn.growing import grow, insertion, serves_alike
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

ZOO = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the shipped ONNs.

    Example:
        >>> from optinc import zoo
        >>> "b8_n4_half_even_all_layers" in zoo.names()
        True
    """
    return sorted(path.parent.name for path in ZOO.glob(f"*/{CARD_FILE}"))


def card(name: str) -> ONNCard:
    """Read the card of a shipped ONN by its name, without its weights."""
    return ONNCard.from_json((ZOO / name / CARD_FILE).read_text(encoding="utf-8"))


def of_design(design: ONNDesign) -> list[str]:
    """Return the names of the shipped ONNs of a design, the one that is wrong least often first."""
    cards = {name: card(name) for name in names()}
    wanted = design.scenario, design.structure, design.approximated_layers
    serving = [
        name
        for name, found in cards.items()
        if (found.scenario, found.structure, found.approximated_layers) == wanted
    ]
    return sorted(serving, key=lambda name: cards[name].wrong_inputs)


def is_shipped(found: ONNCard) -> bool:
    """Whether a card describes the weights of a shipped ONN as the shipped card does."""
    return any(found == card(name) for name in names())


def load(
    source: str | Path | None,
    *,
    scenario: Scenario,
    hidden: Sequence[int] | Literal["table1"],
    layers: Sequence[int] | Literal["none", "all", "table1"],
) -> ONNArtifact:
    """Load the ONN of a switch: by name, by folder, or the shipped one of a design.

    Args:
        source: Name of a shipped ONN, an artifact folder, or None to look up the design.
        scenario: The switch that the ONN must serve.
        hidden: Hidden widths or ``table1``; used only where ``source`` is None.
        layers: Approximated layers; used only where ``source`` is None.

    Raises:
        MissingONNError: If no trained ONN exists for the design; names the command that trains one.
        ArtifactError: If the ONN is damaged or belongs to another scenario.
        ConfigurationError: If the design is illegal.
    """
    if source is None:
        return ONNArtifact.load(ZOO / _find(scenario, hidden, layers))
    onn = load_named(source)
    if onn.card.scenario != scenario:
        raise ArtifactError(
            f"onn={source} serves another scenario ({onn.card.scenario}) than the one requested "
            f"({scenario}); change the optinc settings or choose another onn"
        )
    return onn


def load_named(source: str | Path, *, setting: str = "onn") -> ONNArtifact:
    """Load a shipped ONN by its name, or any ONN from its folder, of any scenario.

    Args:
        source: Name of a shipped ONN, or an artifact folder.
        setting: The setting that named it, for the error.

    Raises:
        MissingONNError: If there is no such name or folder; lists the names.
        ArtifactError: If the ONN is damaged.

    Example:
        >>> from optinc import zoo
        >>> onn = zoo.load_named("b8_n4_half_even_smallest")
        >>> onn.card.structure, onn.card.mzi_count, onn.card.accuracy
        ((4, 10, 10, 10, 10, 7, 5, 4), 484, 1.0)
    """
    folder = ZOO / source if source in names() else expanded(source)
    if not folder.is_dir():
        raise MissingONNError(
            f"{setting}={source} is neither a folder nor a shipped ONN ({', '.join(names())})"
        )
    return ONNArtifact.load(folder)


def load_initial(source: str | Path | None, *, design: ONNDesign) -> OpticalNetwork | None:
    """Load the network that a training starts from.

    Args:
        source: Name of a shipped ONN, an artifact folder, or None for random weights.
        design: The design to be trained. The ONN's approximated layers may differ from it, its
            number of servers too (:func:`optinc.onn.growing.serves_alike`), and where layers are
            missing in it they are inserted (:func:`optinc.onn.growing.grow`).

    Returns:
        The network; None without ``source``.

    Raises:
        MissingONNError: If there is no such ONN.
        ArtifactError: If it is damaged, serves another scenario or has another structure.
    """
    if source is None:
        return None
    onn = load_named(source, setting="onn_training.initial")
    found, wanted = (onn.card.scenario, onn.card.structure), (design.scenario, design.structure)
    if serves_alike(found[0], wanted[0]):
        if found[1] == wanted[1]:
            return onn.network
        if insertion(found[1], wanted[1]) is not None:
            return grow(onn.network, wanted[1])
    raise ArtifactError(
        f"onn_training.initial={source} has the structure {found[1]} for {found[0]}, but "
        f"{wanted[1]} for {wanted[0]} is to be trained; change optinc.mesh.hidden or the "
        "scenario. Legal: this structure, or one that grows into it by layers inserted after a "
        "hidden layer, none of them narrower and the last as wide; this scenario, or a single "
        "switch for another number of servers"
    )


def _find(
    scenario: Scenario,
    hidden: Sequence[int] | Literal["table1"],
    layers: Sequence[int] | Literal["none", "all", "table1"],
) -> str:
    """Return the name of the shipped ONN with exactly this scenario, structure and layers."""
    if (scenario.bits, scenario.servers) not in TABLE1_HIDDEN:
        # Table I has no row for this scenario: the message then suggests its smallest structure.
        hidden = TABLE1_HIDDEN[8, 4] if hidden == "table1" else hidden
        layers = "none" if layers == "table1" else layers
    design = ONNDesign.from_settings(scenario=scenario, hidden=hidden, layers=layers)
    if found := of_design(design):
        return found[0]
    serving = [name for name in names() if card(name).scenario == scenario]
    raise MissingONNError(
        f"no trained ONN is shipped for {design.scenario}, structure "
        f"{'-'.join(str(width) for width in design.structure)}, approximated layers "
        f"{list(design.approximated_layers)}. Train one with\n    {design.train_command}\n"
        "and pass its folder as onn=FOLDER, or average exactly with optinc/fidelity=ideal. "
        f"Shipped for this scenario: {', '.join(f'onn={name}' for name in serving) or 'none'}"
    )
