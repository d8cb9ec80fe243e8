"""Mesh settings, read by nothing but the page that documents them, are the ONN's weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from optinc.onn.artifact import ONNArtifact
from optinc.onn.mesh_settings import REBUILT_TOLERANCE, SETTINGS_FILE, map_onn
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import BiasForm, Shifters
from optinc.photonics.mzi import mesh_columns

PAGE = Path(__file__).parents[3] / "docs" / "mesh_settings.md"


@pytest.fixture(scope="module")
def layers() -> Callable[[Path], Any]:
    """The function ``layers`` of the page's program, which imports nothing of this package."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "optinc" not in program
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102  (the program of our own page)
    found: Callable[[Path], Any] = names["layers"]
    return found


def assert_weights(found: Any, onn: ONNArtifact) -> None:
    assert len(found) == len(onn.network.linears)
    for (weight, bias), linear in zip(found, onn.network.linears, strict=True):
        for rebuilt, value in ((weight, linear.weight), (bias, linear.bias)):
            assert rebuilt.shape == tuple(value.shape)
            error = (torch.from_numpy(rebuilt) - value.double()).abs().max()
            assert error <= REBUILT_TOLERANCE * value.abs().max()


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("bias", ["port", "attenuator"])
def test_the_page_s_program_rebuilds_svd_layers_and_blocks(
    layers: Callable[[Path], Any],
    small_onn: ONNArtifact,
    shifters: Shifters,
    bias: BiasForm,
    tmp_path: Path,
) -> None:
    programme = map_onn(small_onn, shifters=shifters, bias=bias)
    programme.save(tmp_path)
    assert {layer.form for layer in programme.layers} == {"svd", "sigma_u"}
    assert_weights(layers(tmp_path), small_onn)


def test_the_page_s_program_rebuilds_diagonal_layers(
    layers: Callable[[Path], Any], tmp_path: Path
) -> None:
    onn = load_named("b2_n4_decimal_robust")
    programme = map_onn(onn)
    programme.save(tmp_path)
    assert "diagonal" in {layer.form for layer in programme.layers}
    assert_weights(layers(tmp_path), onn)


def test_another_order_of_the_interferometers_is_another_matrix(
    layers: Callable[[Path], Any], small_onn: ONNArtifact, tmp_path: Path
) -> None:
    programme = map_onn(small_onn)
    programme.save(tmp_path)
    settings = dict(programme.settings)
    settings["layers.0.left.theta"] = settings["layers.0.left.theta"].flip(1).contiguous()
    safetensors.torch.save_file(settings, tmp_path / SETTINGS_FILE)
    with pytest.raises(AssertionError):
        assert_weights(layers(tmp_path), small_onn)


def test_the_page_names_every_key_and_the_order_of_four_modes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    modes = [f"{mode}{mode + 1}" for column in mesh_columns(4) for mode in column.tolist()]
    assert f"lie on the modes {', '.join(modes)}" in page
    programme = map_onn(load_named("b2_n4_decimal_robust"), bias="attenuator")
    for key in programme.settings:
        name = re.sub(r"blocks\d+", "blocks<s>", re.sub(r"^layers\.\d+", "layers.<i>", key))
        stem, _, last = name.rpartition(".")
        assert name in page or (f"`.{last}`" in page and f"`{stem}." in page), name
