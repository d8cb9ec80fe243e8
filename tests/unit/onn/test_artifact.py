from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from optinc.errors import ArtifactError
from optinc.onn.artifact import CARD_FILE, WEIGHTS_FILE, ONNArtifact, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.zoo import ZOO


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped ONN, to be damaged."""
    return Path(shutil.copytree(ZOO / "b8_n4_half_even_all_layers", tmp_path / "onn"))


def rewrite_card(folder: Path, **values: Any) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | values))


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights and keep the hash true."""
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    change(weights)
    data = safetensors.torch.save(weights)
    (folder / WEIGHTS_FILE).write_bytes(data)
    rewrite_card(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-100] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(bytes(data))


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


def truncate_with_true_hash(folder: Path) -> None:
    truncate(folder)
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    rewrite_card(folder, weights_sha256=digest)


def remove_key(folder: Path) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    del card["rounding"]
    (folder / CARD_FILE).write_text(json.dumps(card))


def transpose(weights: dict[str, torch.Tensor]) -> None:
    weights["layers.0.weight"] = weights["layers.0.weight"].T.contiguous()


def make_nan(weights: dict[str, torch.Tensor]) -> None:
    weights["layers.1.bias"][3] = torch.nan


def leave_the_form(weights: dict[str, torch.Tensor]) -> None:
    """Move one weight by 1e-4 of the largest, ten times the tolerance."""
    weight = weights["layers.2.weight"]
    weight[5, 7] += 1e-4 * weight.abs().max()


def test_an_onn_that_is_not_what_its_design_claims_is_not_saved(
    small_onn: ONNArtifact, tmp_path: Path
) -> None:
    card = small_onn.card
    design = ONNDesign(card.scenario, card.structure, (1, 2))  # layer 1 is dense
    with pytest.raises(ArtifactError, match="structure check failed: layer 1 is said"):
        save_artifact(
            tmp_path / "onn",
            network=small_onn.network,
            design=design,
            evaluation=evaluate_exhaustively(small_onn.network, card.scenario),
            seed=0,
            epochs=0,
            seconds=0.0,
            device=torch.device("cpu"),
            command="none",
        )
    assert not (tmp_path / "onn").exists()


def test_what_was_saved_is_loaded(small_onn: ONNArtifact) -> None:
    assert small_onn.card.structure == (2, 32, 32, 2)
    assert small_onn.card.exhaustive_inputs == 49
    assert 0 < small_onn.card.wrong_inputs <= 49
    assert sum(small_onn.card.error_values.values()) == small_onn.card.wrong_inputs
    assert not any(p.requires_grad for p in small_onn.network.parameters())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_bit, "SHA-256 check failed"),
        (truncate, "SHA-256 check failed"),
        (truncate_with_true_hash, "format check failed"),
        (lambda f: (f / WEIGHTS_FILE).unlink(), "has no model.safetensors"),
        (lambda f: (f / CARD_FILE).unlink(), "has no card.json"),
        (lambda f: (f / CARD_FILE).write_text("{"), "metadata check failed"),
        (lambda f: (f / CARD_FILE).write_text("[]"), "metadata check failed"),
        (lambda f: (f / CARD_FILE).write_bytes(b"\xff\xfe"), "card.json"),
        (remove_key, "metadata check failed: no rounding"),
        (lambda f: rewrite_card(f, bits=9), "optinc.bits must be even"),
        (lambda f: rewrite_card(f, symbols=3), "symbols is 3, expected 4"),
        (lambda f: rewrite_card(f, exhaustive_inputs=5), "exhaustive_inputs is 5"),
        (lambda f: rewrite_card(f, wrong_inputs=1), "wrong_inputs is 1, expected 0"),
        (lambda f: rewrite_card(f, activation="tanh"), "activation is tanh"),
        (lambda f: rewrite_card(f, mzi_count=41_664 - 1), "mzi_count is 41663, expected 41664"),
        (lambda f: rewrite_card(f, area_ratio=0.1), "area_ratio is 0.1, expected 0.39"),
        (lambda f: rewrite_card(f, approximated_layers=[1, 9]), "expected ascending layers within"),
        (lambda f: rewrite_weights(f, leave_the_form), "structure check failed: layer 3 is said"),
        (lambda f: rewrite_card(f, structure=[4, 64, 8]), "does not map 4 inputs to 4"),
        (lambda f: rewrite_weights(f, transpose), "shape check failed"),
        (lambda f: rewrite_weights(f, lambda w: w.pop("layers.0.bias")), "shape check failed"),
        (lambda f: rewrite_weights(f, make_nan), "finiteness check failed: layers.1.bias"),
    ],
)
def test_damage_is_refused_with_its_kind(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(ArtifactError, match=message):
        ONNArtifact.load(folder)


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_in_place_of_the_weights_is_not_executed(folder: Path, tmp_path: Path) -> None:
    data = pickle.dumps(Payload(tmp_path / "executed"))
    (folder / WEIGHTS_FILE).write_bytes(data)
    rewrite_card(folder, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ArtifactError, match="format check failed"):
        ONNArtifact.load(folder)
    assert not (tmp_path / "executed").exists()
