"""Trained ONNs shipped with the package, and the way to find one or load one's own."""

from __future__ import annotations

from pathlib import Path

from optinc.errors import ArtifactError, MissingONNError
from optinc.onn.artifact import CARD_FILE, ONNArtifact, ONNCard
from optinc.onn.design import ONNDesign

ZOO = Path(__file__).parent


def names() -> list[str]:
    """Names of the shipped ONNs."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{CARD_FILE}"))


def load(source: str | Path | None, *, design: ONNDesign) -> ONNArtifact:
    """Load the ONN for a design, or the one asked for by name or folder.

    Args:
        source: Name of a shipped ONN, an artifact folder, or None to look the design up in the zoo.
        design: Says which switch is wanted; with ``source`` only its scenario has to agree.

    Raises:
        MissingONNError: If no trained ONN exists for the design; names the command that trains one.
        ArtifactError: If the ONN is damaged or belongs to another scenario.
    """
    if source is None:
        return ONNArtifact.load(ZOO / _find(design))
    folder = ZOO / source if source in names() else Path(source)
    if not folder.is_dir():
        raise MissingONNError(
            f"onn={source} is neither a folder nor a shipped ONN ({', '.join(names())})"
        )
    onn = ONNArtifact.load(folder)
    if onn.card.scenario != design.scenario:
        raise ArtifactError(
            f"{folder} serves another scenario ({onn.card.scenario}) than the one requested "
            f"({design.scenario}); change the optinc settings or choose another onn"
        )
    return onn


def _find(design: ONNDesign) -> str:
    """Return the name of the shipped ONN of exactly this design."""
    for name in names():
        card = ONNCard.from_json((ZOO / name / CARD_FILE).read_text(encoding="utf-8"))
        if (card.scenario, card.structure, card.approximated_layers) == (
            design.scenario,
            design.structure,
            design.approximated_layers,
        ):
            return name
    raise MissingONNError(
        f"no trained ONN is shipped for {design.scenario}, structure "
        f"{'-'.join(str(width) for width in design.structure)}, approximated layers "
        f"{list(design.approximated_layers)}. Train one with\n    {design.train_command}\n"
        "and pass its folder as onn=FOLDER, or average exactly with optinc/fidelity=ideal. "
        f"Shipped: {', '.join(names()) or 'none'}"
    )
