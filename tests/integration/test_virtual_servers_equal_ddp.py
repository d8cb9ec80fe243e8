from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.forks import forked
from tests.integration.two_servers import CASES, SERVERS, results


@pytest.fixture(scope="module")
def trained(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Tensor]]:
    """Final weights and buffers of all cases, by two real processes and by two virtual servers."""
    file = tmp_path_factory.mktemp("two_servers") / "ddp"
    forked(SERVERS, "tests.integration.two_servers", str(file))
    return {"ddp": safetensors.torch.load_file(file), "virtual": results("virtual")}


@pytest.mark.parametrize("case", CASES)
def test_two_virtual_servers_equal_two_processes_bit_for_bit(
    trained: dict[str, dict[str, Tensor]], case: str
) -> None:
    names = [name for name in trained["ddp"] if name.startswith(f"{case}.")]
    assert any("running_mean" in name for name in names)
    for name in names:
        assert torch.equal(trained["virtual"][name], trained["ddp"][name]), name
