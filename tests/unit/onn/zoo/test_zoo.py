"""The shipped ONNs.

Covers: optinc.onn.zoo
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from optinc.errors import ArtifactError, MissingONNError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.design import TABLE1_HIDDEN, ONNDesign
from optinc.signal.scenario import make_scenario


def load(source: str | Path | None = None, *, servers: int = 4, layers: Any = "all") -> ONNArtifact:
    scenario = make_scenario(bits=8, servers=servers, onn_inputs="auto", rounding="half_even")
    return zoo.load(source, scenario=scenario, hidden="table1", layers=layers)


def recompute(folder: Path, *, every: int = 1) -> tuple[int, int]:
    """Wrong and evaluated inputs from the two files alone, by NumPy without this package.

    Args:
        folder: Holds the two files.
        every: Evaluate one input of so many.
    """
    card = json.loads((folder / "card.json").read_text())
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    n, k, g = card["servers"], card["inputs"], card["group"]
    # In a cascade the last input is finer, and below the top the last output too. The whole sum
    # comes back in more symbols.
    level, decimal = card.get("level", 1), card.get("keeps_decimal", False)
    steps = np.array([n] * (k - 1) + [n**level])
    radices = np.array([n * (4**g - 1) + 1] * (k - 1) + [4**g * n**level - n + 1])
    strides = np.append(np.cumprod(radices[:0:-1])[::-1], 1)
    whole = card.get("downlink", "quantised") == "decimal"
    symbols = card["structure"][-1]
    output_steps = np.array([1] * (symbols - 1) + [n**level if decimal else 1])
    place = 4.0 ** np.arange(symbols - 1, -1, -1)
    depth, wrong = len(card["structure"]) - 1, 0
    chosen = np.arange(0, radices.prod(), every)
    for index in np.array_split(chosen, -(-len(chosen) // 20_000)):
        averages = index[:, None] // strides % radices / steps
        signal = (averages * card["input_scale"] + card["input_offset"]).astype(np.float32)
        for i in range(depth):
            signal = signal @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
            signal = np.maximum(signal, 0) if i < depth - 1 else signal
        levels = (signal * card["output_scale"] + card["output_offset"]) * output_steps
        received = np.clip(np.round(levels), 0, 4 * output_steps - 1) / output_steps
        # Sums of powers of two: exact wherever servers are a power of two.
        mean = averages @ 4.0 ** (g * np.arange(k - 1, -1, -1))
        q = {"floor": np.floor(mean), "half_up": np.floor(mean + 0.5), "half_even": np.round(mean)}
        ideal = mean if decimal else np.minimum(q[card["rounding"]], 2 ** card["bits"] - 1)
        ideal = mean * n**level if whole else ideal
        wrong += int((received @ place != ideal).sum())
    return wrong, len(chosen)


def cards() -> list[Any]:
    """Names of the shipped ONNs; those with millions of inputs are slow to evaluate."""
    return [
        pytest.param(
            name,
            marks=[pytest.mark.slow]
            if json.loads((zoo.ZOO / name / "card.json").read_text())["exhaustive_inputs"] > 10**6
            else [],
        )
        for name in zoo.names()
    ]


@pytest.mark.parametrize("name", cards())
def test_the_cards_tell_the_truth(name: str) -> None:
    card = json.loads((zoo.ZOO / name / "card.json").read_text())
    operations = card["exhaustive_inputs"] * sum(m * n for m, n in pairwise(card["structure"]))
    # Table I's structure on millions of inputs takes minutes: experiments.table1 --verify. Those of
    # 8.2e8 inputs are proved: tests/unit/onn/construction/test_proof.py.
    every = 1 if operations < 5 * 10**10 else 101 if card["exhaustive_inputs"] < 10**8 else 10_007
    wrong, evaluated = recompute(zoo.ZOO / name, every=every)
    assert card["evaluated_inputs"] == card["exhaustive_inputs"]
    assert card["wrong_inputs"] == sum(card["error_values"].values())
    if every == 1:
        assert (wrong, evaluated) == (card["wrong_inputs"], card["exhaustive_inputs"])
    else:
        expected = card["wrong_inputs"] * evaluated / card["exhaustive_inputs"]
        assert abs(wrong - expected) <= 5 * expected**0.5
        assert evaluated >= card["exhaustive_inputs"] / every


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("b8_n4_floor_smallest", 340),
        ("b8_n4_half_up_smallest", 340),
        ("b8_n4_half_even_smallest", 500),
        ("b2_n4_decimal_smallest", 24),
        ("b4_n4_decimal_smallest", 120),
        ("b8_n4_decimal_smallest", 402),
        ("b8_n8_half_even_smallest", 1000),
        ("b8_n16_half_even_smallest", 1000),
        ("b16_n4_half_even_smallest", 1500),
    ],
)
def test_the_smallest_switches_are_exact_and_small(name: str, most: int) -> None:
    card = ONNArtifact.load(zoo.ZOO / name).card
    assert (card.wrong_inputs, card.smallest_margin) == (0, 0.5)
    assert card.mzi_count <= most


def test_scenario_1_is_shipped_dense_and_approximated_at_100_percent() -> None:
    for layers, ratio in (("none", 1.0), ("all", 0.3927)):
        card = load(layers=layers).card
        assert (card.wrong_inputs, card.exhaustive_inputs) == (0, 28_561)
        assert card.smallest_margin >= 0.001
        assert card.area_ratio == pytest.approx(ratio, abs=5e-5)


@pytest.mark.parametrize(("bits", "servers"), TABLE1_HIDDEN)
@pytest.mark.parametrize("layers", ["none", "table1", "all"])
def test_every_row_of_table_1_and_all_layers_are_shipped_at_100_percent(
    bits: int, servers: int, layers: str
) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    card = zoo.load(None, scenario=scenario, hidden="table1", layers=layers).card  # type: ignore[arg-type]
    assert (card.wrong_inputs, card.evaluated_inputs) == (0, scenario.combinations)


@pytest.mark.parametrize("layers", ["none", "all"])
def test_the_whole_sum_has_onns_of_table_1_s_structure_too(layers: str) -> None:
    scenario = make_scenario(
        bits=8, servers=4, onn_inputs="auto", rounding="half_even", downlink="decimal"
    )
    card = zoo.load(None, scenario=scenario, hidden="table1", layers=layers).card  # type: ignore[arg-type]
    assert (card.wrong_inputs, card.evaluated_inputs) == (0, 28_561)
    # One symbol more leaves the last layer and unit T, and nothing else, larger.
    assert card.structure == (4, *TABLE1_HIDDEN[8, 4], 5)
    assert card.interface_mzi_count == (4 * 5 + 16 * 15) // 2 + (20 * 21 + 5 * 4) // 2


@pytest.mark.parametrize(
    "layers", [[4, 5, 6], [4, 5, 6, 7], [4, 5, 6, 7, 8], [3, 4, 5, 6], [3, 4, 5, 6, 7]], ids=str
)
def test_every_row_of_table_2_is_shipped_at_100_percent(layers: list[int]) -> None:
    scenario = make_scenario(bits=16, servers=4, onn_inputs="auto", rounding="half_even")
    card = zoo.load(None, scenario=scenario, hidden="table1", layers=layers).card
    assert (card.wrong_inputs, card.evaluated_inputs) == (0, 13_845_841)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in zoo.names()
        if json.loads((zoo.ZOO / name / "card.json").read_text())["approximated_layers"]
    ],
)
def test_the_approximated_weights_are_sigma_u_block_by_block(name: str) -> None:
    card = json.loads((zoo.ZOO / name / "card.json").read_text())
    weights = safetensors.numpy.load_file(zoo.ZOO / name / "model.safetensors")
    for layer in card["approximated_layers"]:
        weight = weights[f"layers.{layer - 1}.weight"].astype(np.float64)
        for block in square_blocks(weight):
            left, _, right = np.linalg.svd(block)
            unitary = left @ right
            scale = (block * unitary).sum(1, keepdims=True)
            error = np.abs(block - scale * unitary).max()
            assert error < 1e-5 * max(1, np.abs(block).max())


def square_blocks(weight: np.ndarray) -> list[np.ndarray]:
    """Cut a weight into square blocks; a rest that is not square is cut again."""
    if 0 in weight.shape:
        return []
    if weight.shape[0] < weight.shape[1]:
        return [block.T for block in square_blocks(weight.T)]
    size = weight.shape[1]
    return [weight[:size], *square_blocks(weight[size:])]


def test_a_missing_onn_is_an_error_that_names_the_training_command() -> None:
    with pytest.raises(MissingONNError, match=r"python run.py task=train_onn .*servers=5"):
        load(servers=5)


def test_a_missing_onn_names_the_shipped_ones_of_its_scenario() -> None:
    with pytest.raises(MissingONNError, match=r"this scenario: .*onn=b8_n8_half_even_smallest"):
        load(servers=8, layers=[3])
    with pytest.raises(MissingONNError, match=r"this scenario: none$"):
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


def test_an_unknown_onn_to_start_from_is_refused_by_its_own_setting() -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    design = ONNDesign.from_settings(scenario=scenario, hidden="table1", layers=[])
    with pytest.raises(MissingONNError, match=r"^onn_training.initial=nothing is neither a folder"):
        zoo.load_initial("nothing", design=design)
