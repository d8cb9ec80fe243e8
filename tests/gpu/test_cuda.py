from __future__ import annotations

from pathlib import Path

import pytest
import torch

from optinc.onn.artifact import ONNArtifact
from optinc.onn.zoo import ZOO
from optinc.reducers.optinc import OptINCReducer
from optinc.switches.single import ONNSwitch
from tests.hydra_jobs import TINY, job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_the_reduction_on_cuda_is_bit_identical_to_the_cpu_s() -> None:
    reducer = OptINCReducer.from_zoo(bits=8, servers=4)
    rows = torch.randn(4, 100_003) * torch.logspace(-30, 30, 100_003)
    expected = reducer(rows)
    reduced = reducer.cuda()(rows.cuda())
    assert reduced.is_cuda
    assert torch.equal(reduced.cpu(), expected)


def test_the_onn_on_cuda_receives_what_the_table_holds() -> None:
    onn = ONNArtifact.load(ZOO / "b8_n4_half_even_all_layers")
    codes = torch.randint(0, 256, (4, 50_000), dtype=torch.int32)
    table = OptINCReducer.from_zoo(bits=8, servers=4).switch
    assert torch.equal(ONNSwitch(onn).cuda()(codes.cuda()).cpu(), table(codes))


def test_a_network_trains_on_cuda(tmp_path: Path) -> None:
    overrides = [o for o in TINY if not o.startswith("trainer.accelerator")]
    summary, objects = job(tmp_path, *overrides, "trainer.max_steps=3")
    assert objects["trainer"].strategy.root_device.type == "cuda"
    assert summary["steps"] == 3
