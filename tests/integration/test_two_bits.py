"""Training with codes of two bits: the switch's Q hurts, and what comes back with it.

``python -m pytest -s tests/integration/test_two_bits.py`` prints what it measures.
"""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import Downlink, make_scenario
from optinc.switches.single import IdealSwitch, TableSwitch

SERVERS, STEPS, BATCH = 4, 300, 64


def rounding(downlink: Downlink) -> OptINCReducer:
    """A reducer of two bits with a switch that is right on every input."""
    scenario = make_scenario(
        bits=2, servers=SERVERS, onn_inputs="auto", rounding="half_even", downlink=downlink
    )
    return OptINCReducer(quantizer=BlockQuantizer(bits=2), switch=IdealSwitch(scenario))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Handwritten digits: 1,437 to learn from and 360 unseen ones, images [n, 64] and labels."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.data).float()[order] / 16
    labels = torch.from_numpy(data.target).long()[order]
    return images[360:], labels[360:], images[:360], labels[:360]


def trained(reducer: Reducer, *, seed: int = 0) -> tuple[float, float]:
    """Train a multilayer perceptron; return loss and accuracy on unseen digits."""
    images, labels, unseen, right = digits()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    model.append(nn.Linear(64, 10))
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = []
        for part in torch.randperm(len(images), generator=generator)[:BATCH].chunk(SERVERS):
            loss = cross_entropy(model(images[part]), labels[part])
            gradients = torch.autograd.grad(loss, parameters)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        reduced = reducer(torch.stack(rows))
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, gradient in zip(parameters, reduced.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        optimizer.step()
    with torch.no_grad():
        logits = model(unseen)
    accuracy = float((logits.argmax(1) == right).double().mean())
    return float(cross_entropy(logits, right)), accuracy


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[float, float]]:
    """Loss and accuracy of every way to average."""
    arms: dict[str, Reducer] = {
        "quantised": rounding("quantised"),
        "decimal": rounding("decimal"),
        "exact": RingReducer(servers=SERVERS),
    }
    found = {name: trained(reducer) for name, reducer in arms.items()}
    for name, (loss, accuracy) in found.items():
        print(f"{name}: loss {loss:.3f}, {accuracy:.1%} of unseen digits right")
    return found


def test_the_whole_sum_makes_two_bits_learn(results: dict[str, tuple[float, float]]) -> None:
    losses = {name: loss for name, (loss, _) in results.items()}
    assert losses["decimal"] < 0.5 * losses["quantised"]
    assert results["decimal"][1] > results["quantised"][1]
    assert results["decimal"][1] > results["exact"][1] - 0.03


def test_a_shipped_onn_learns_what_the_ideal_switch_does(
    results: dict[str, tuple[float, float]],
) -> None:
    onn = ONNArtifact.load(zoo.ZOO / "b2_n4_decimal_smallest")
    table = OptINCReducer(quantizer=BlockQuantizer(bits=2), switch=TableSwitch(onn))
    assert trained(table) == results["decimal"]
