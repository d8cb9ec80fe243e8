"""Weights of a plain ``nn.Sequential`` as an ONN, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.approximation import approximate, approximation_error
from optinc.onn.artifact import ONNArtifact
from optinc.onn.design import ONNDesign
from optinc.onn.importing import fitting_rounding, import_network
from optinc.onn.mesh_settings import map_onn, rebuild_network
from optinc.onn.truth_table import tabulate
from optinc.signal.preprocessing import sums_of_index
from optinc.signal.scenario import make_scenario

TRAINED = "b4_n4_decimal_dense"
"""2-32-32-32-3, trained, right on all of its 169 inputs."""


def exported(onn: ONNArtifact) -> nn.Sequential:
    """The layers of an ONN as a plain network."""
    modules: list[nn.Module] = []
    for linear in onn.network.linears:
        plain = nn.Linear(linear.in_features, linear.out_features)
        plain.load_state_dict(linear.state_dict())
        modules += [plain, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def design_of(onn: ONNArtifact, **values: Any) -> ONNDesign:
    card = onn.card
    design = ONNDesign(card.scenario, card.structure, card.approximated_layers)
    return replace(design, **values)


def small_design(rounding: Any = "half_even", layers: Any = "none") -> ONNDesign:
    """1-3-1: 2 bits, 4 servers."""
    scenario = make_scenario(bits=2, servers=4, onn_inputs=1, rounding=rounding)
    return ONNDesign.from_settings(scenario=scenario, hidden=[3], layers=layers)


@pytest.fixture(scope="module")
def trained() -> ONNArtifact:
    return zoo.load_named(TRAINED)


@pytest.mark.parametrize("as_file", [True, False])
def test_an_exported_onn_comes_back_with_its_truth_table_and_its_accuracy(
    as_file: bool, trained: ONNArtifact, tmp_path: Path
) -> None:
    model = exported(trained)
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    imported = import_network(path if as_file else model, design=design_of(trained))
    onn = imported.save(tmp_path / "onn")
    table = tabulate(onn.network, onn.card.scenario)
    assert torch.equal(table.codes, tabulate(trained.network, trained.card.scenario).codes)
    assert onn.card.weights_sha256 == trained.card.weights_sha256
    assert (onn.card.evaluated_inputs, onn.card.wrong_inputs) == (169, 0)
    assert onn.card.smallest_margin == pytest.approx(trained.card.smallest_margin, rel=1e-4)
    assert onn.card.imported_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert onn.card.hardware == "unknown"
    assert trained.card.imported_sha256 is None
    loaded = ONNArtifact.load(tmp_path / "onn")
    assert loaded.card == onn.card


def test_outputs_are_those_of_the_network_with_its_own_scales() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1)).double()
    scales = {"input_scale": 4.0, "input_offset": -2.0, "output_scale": -0.5, "output_offset": 3.0}
    network, _, _ = import_network(model, design=small_design(), **scales)
    averages = torch.arange(13).unsqueeze(1) / 4
    expected = model(averages.double() * 4 - 2) * -0.5 + 3
    assert torch.allclose(network(averages).double(), expected, atol=1e-6)
    assert network.linears[0].bias.tolist() == [0.0, 0.0, 0.0]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_usual_scales_are_those_of_a_training(trained: ONNArtifact) -> None:
    network, _, _ = import_network(exported(trained), design=design_of(trained))
    for name in ("input_scale", "input_offset", "output_scale", "output_offset"):
        assert getattr(network, name) == getattr(trained.card, name)


def staircase(rounding: str) -> nn.Sequential:
    """The average of 4 servers of 2 bits, rounded: a ReLU pair of slope 4 for each of 3 steps."""
    first = {"floor": [4, 8, 12], "half_up": [2, 6, 10], "half_even": [3, 6, 11]}[rounding]
    rising, falling = [step - 1.0 for step in first], [float(step) for step in first]
    model = nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1))
    with torch.no_grad():
        model[0].weight.fill_(4.0)
        model[0].bias.copy_(-torch.tensor(rising + falling))
        model[2].weight.copy_(torch.tensor([[1.0] * 3 + [-1.0] * 3]))
        model[2].bias.zero_()
    return model


PLAIN = {"input_scale": 1, "input_offset": 0, "output_scale": 1, "output_offset": 0}


def test_a_network_of_another_rounding_is_wrong_at_its_ties_and_the_rounding_is_found() -> None:
    """Half up differs from half even at sums of 2 and 10, floor at 3, 6, 7 and 11, of 0 to 12."""
    design = replace(small_design("half_even"), structure=(1, 6, 1))
    for rounding, wrong in {"floor": 4, "half_up": 2, "half_even": 0}.items():
        network, _, _ = import_network(staircase(rounding), design=design, **PLAIN)
        sums = sums_of_index(torch.arange(13), design.scenario)[:, 0]
        target = torch.round(sums / 4).int()
        codes = tabulate(network, design.scenario).codes
        assert int((codes != target).sum()) == wrong
        expected = (rounding, 0) if wrong else None
        assert fitting_rounding(network, design.scenario, wrong=wrong) == expected


def test_weights_of_any_size_are_played_by_meshes_since_layers_have_gains(
    trained: ONNArtifact,
) -> None:
    """A ReLU is homogeneous: 50 times one layer and a fiftieth of the next is the same network."""
    model = exported(trained)
    with torch.no_grad():
        model[0].weight *= 50
        model[0].bias *= 50
        model[2].weight /= 50
    imported = import_network(model, design=design_of(trained))
    onn = replace(trained, network=imported.network)
    rebuilt = rebuild_network(map_onn(onn))
    scenario = trained.card.scenario
    assert torch.equal(tabulate(rebuilt, scenario).codes, tabulate(trained.network, scenario).codes)


def test_approximated_layers_are_projected_on_request_and_refused_otherwise(
    trained: ONNArtifact,
) -> None:
    model, design = exported(trained), design_of(trained, approximated_layers=(2, 3))
    with pytest.raises(ConfigurationError, match=r"layer 2 .*onn_import\.project=true .*=none"):
        import_network(model, design=design)
    network, _, _ = import_network(model, design=design, project=True)
    for index, linear in enumerate(network.linears, start=1):
        source = model[2 * index - 2].weight.detach()
        expected = approximate(source) if index in (2, 3) else source
        assert torch.allclose(linear.weight, expected, atol=1e-6)
    assert approximation_error(network.linears[1].weight) < 1e-6
    assert torch.equal(model[2].weight, trained.network.linears[1].weight)


def layers(*widths: int) -> list[nn.Module]:
    return [nn.Linear(n, m) for n, m in pairwise(widths)]


FOREIGN = {
    "Linear, Tanh, Linear": nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)),
    "Linear, Linear": nn.Sequential(*layers(1, 3, 1)),
    "Linear, ReLU, Linear, ReLU": nn.Sequential(
        nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU()
    ),
    "Linear, ReLU, Dropout, Linear": nn.Sequential(
        nn.Linear(1, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 1)
    ),
    "no module": nn.Sequential(),
    "Linear": nn.Linear(1, 1),
}


@pytest.mark.parametrize("found", FOREIGN)
def test_another_network_is_refused(found: str) -> None:
    message = rf"must be an nn\.Sequential of Linear, ReLU, Linear, \.\.\., Linear, got {found}$"
    with pytest.raises(ConfigurationError, match=message):
        import_network(FOREIGN[found], design=small_design())


def state(**changes: Tensor | None) -> dict[str, Tensor]:
    """A state dict of 1-3-1, with entries replaced or left out; ``_`` stands for a dot."""
    tensors = {"0.weight": torch.ones(3, 1), "0.bias": torch.ones(3)}
    tensors |= {"2.weight": torch.ones(1, 3), "2.bias": torch.ones(1)}
    changed = {name.replace("_", ".").strip("x"): value for name, value in changes.items()}
    return {name: value for name, value in (tensors | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds nothing; legal are 0.weight, 0.bias, 2.weight"),
        (state(net_0_weight=torch.ones(3, 1)), "holds net.0.weight; legal are 0.weight"),
        (state(x1_running_mean=torch.ones(3)), "holds 1.running.mean; legal are"),
        (state(x1_weight=torch.ones(3), x1_bias=torch.ones(3)), r"layers at \[0, 1, 2\]; legal"),
        (state(x2_weight=None, x2_bias=None, x3_weight=torch.ones(1, 3)), r"at \[0, 3\]; legal"),
        (state(x2_weight=None), "has no matrix 2.weight"),
        (state(x2_weight=torch.ones(3)), "has no matrix 2.weight"),
        (state(x2_bias=torch.ones(2)), r"2.weight \[1, 3\] does not fit its bias \[2\]"),
        (state(x2_weight=torch.ones(1, 4)), r"2.weight \[1, 4\] does not fit .* the layer before"),
        (state(x0_bias=torch.tensor([1.0, torch.nan, 1.0])), "layer 0 must hold finite floats"),
        (state(x0_bias=torch.full((3,), 1e300, dtype=torch.float64)), "range of float32"),
        (state(x2_weight=torch.ones(1, 3, dtype=torch.int32)), "layer 2 must hold finite floats"),
        (
            state(x0_weight=torch.ones(3, 2)),
            r"a network 2-3-1, but .* ask for 1-3-1: .* asks for 1 \(legal .*: \[1\]\)$",
        ),
        (
            state(x2_weight=torch.ones(2, 3), x2_bias=torch.ones(2)),
            "has 2 outputs, but 1 symbols come back with optinc.bits=2 and optinc.downlink=quant",
        ),
        (
            state(x0_weight=torch.ones(5, 1), x0_bias=None, x2_weight=torch.ones(1, 5)),
            r"its hidden widths are optinc\.mesh\.hidden=\[5\]$",
        ),
    ],
)
def test_a_file_of_other_weights_is_refused_in_one_line(
    tensors: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ConfigurationError, match=message) as caught:
        import_network(path, design=small_design())
    assert f"onn_import.weights={path}" in str(caught.value)
    assert "\n" not in str(caught.value)


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def test_a_pickle_or_no_file_is_refused_and_no_code_of_it_runs(tmp_path: Path) -> None:
    pickled = tmp_path / "mine.pt"
    pickled.write_bytes(pickle.dumps(Evil()))
    torch.save({"0.weight": torch.ones(3, 1)}, tmp_path / "other.pt")
    for path, why in {
        pickled: "is no safetensors file",
        tmp_path / "other.pt": "is no safetensors file",
        tmp_path / "none.safetensors": "is no file",
        tmp_path: "is no file",
    }.items():
        with pytest.raises(ConfigurationError, match=f"{why}.*save_file"):
            import_network(path, design=small_design())
    with pytest.raises(ConfigurationError, match=r"onn_import\.weights must be given: a safet"):
        import_network(None, design=small_design())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "tanh"}, "onn_import.activation must be relu, .*, got 'tanh'"),
        ({"input_scale": 0.0}, r"onn_import.input_scale must .* other than 0, .* \(0.666667\)"),
        ({"output_scale": float("inf")}, "onn_import.output_scale must be a finite number other"),
        ({"output_offset": "x"}, "output_offset must be a finite number, or null for .*, got x"),
        ({"input_offset": True}, "input_offset must be a finite number, or null"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with pytest.raises(ConfigurationError, match=message):
        import_network(model, design=small_design(), **settings)
