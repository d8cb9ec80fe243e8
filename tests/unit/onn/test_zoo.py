from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from optinc.errors import ArtifactError, MissingONNError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.signal.scenario import make_scenario


def load(source: str | Path | None = None, *, servers: int = 4, layers: str = "all") -> ONNArtifact:
    scenario = make_scenario(bits=8, servers=servers, inputs="auto", rounding="half_even")
    return zoo.load(source, scenario=scenario, hidden="table1", layers=layers)


def recompute(folder: Path) -> tuple[int, int]:
    """Accuracy from the two files alone: ten lines of NumPy that know nothing of this package."""
    card = json.loads((folder / "card.json").read_text())
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    n, k, g = card["servers"], card["inputs"], card["group"]
    sums = np.stack(np.meshgrid(*[np.arange(n * (4**g - 1) + 1)] * k, indexing="ij"), -1)
    sums = sums.reshape(-1, k)
    signal = (sums / n * card["input_scale"] + card["input_offset"]).astype(np.float32)
    depth = len(card["structure"]) - 1
    for i in range(depth):
        signal = signal @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
        signal = np.maximum(signal, 0) if i < depth - 1 else signal
    received = np.clip(np.round(signal * card["output_scale"] + card["output_offset"]), 0, 3)
    total = sums @ (4 ** (g * np.arange(k - 1, -1, -1)))
    assert card["rounding"] == "half_even"
    target = np.round(total / n).astype(int)
    code = received.astype(int) @ (4 ** np.arange(card["symbols"] - 1, -1, -1))
    return int((code == target).sum()), len(code)


@pytest.mark.parametrize("name", zoo.names())
def test_the_cards_tell_the_truth(name: str) -> None:
    card = json.loads((zoo.ZOO / name / "card.json").read_text())
    right, total = recompute(zoo.ZOO / name)
    assert total == card["exhaustive_inputs"]
    assert total - right == card["wrong_inputs"]


def test_scenario_1_is_shipped_dense_and_approximated_at_100_percent() -> None:
    for layers, ratio in (("none", 1.0), ("all", 0.3927)):
        card = load(layers=layers).card
        assert (card.wrong_inputs, card.exhaustive_inputs) == (0, 28_561)
        assert card.smallest_margin >= 0.01
        assert card.area_ratio == pytest.approx(ratio, abs=5e-5)


def test_the_approximated_weights_are_sigma_u_block_by_block() -> None:
    folder = zoo.ZOO / "b8_n4_half_even_all_layers"
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    for i in range(6):
        weight = weights[f"layers.{i}.weight"].astype(np.float64)
        m, n = weight.shape
        size = min(m, n)
        for block in np.split(weight, max(m, n) // size, axis=0 if m >= n else 1):
            left, _, right = np.linalg.svd(block)
            unitary = left @ right
            scale = (block * unitary).sum(1, keepdims=True)
            assert np.abs(block - scale * unitary).max() < 1e-5


def test_a_missing_onn_is_an_error_that_names_the_training_command() -> None:
    with pytest.raises(MissingONNError, match=r"python run.py task=train_onn .*servers=5"):
        load(servers=5)


def test_an_onn_can_be_named_or_given_as_a_folder() -> None:
    named = load("b8_n4_half_even_dense")
    given = load(zoo.ZOO / "b8_n4_half_even_dense")
    assert named.card == given.card
    assert named.card.approximated_layers == ()


def test_an_onn_of_another_scenario_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"serves another scenario .*servers=4.*servers=5"):
        load("b8_n4_half_even_dense", servers=5)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(MissingONNError, match="b8_n4_half_even_all_layers"):
        load("best")
