from __future__ import annotations

import pytest
import torch
from torch import nn

from optinc.strategies.buffers import ServerBuffers


def test_every_server_starts_from_the_same_buffers_and_the_last_one_s_are_kept() -> None:
    norm = nn.BatchNorm1d(2)
    original = norm.running_mean
    buffers = ServerBuffers(norm)
    for offset in (100.0, 1.0):
        buffers.isolate()
        norm(torch.full((4, 2), offset))
    buffers.keep()
    assert norm.running_mean is original
    assert original.tolist() == pytest.approx([0.1, 0.1])
    assert norm.num_batches_tracked.item() == 1


def test_a_shared_buffer_stays_shared() -> None:
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second._buffers["running_mean"] = first.running_mean
    module = nn.ModuleList([first, second])
    buffers = ServerBuffers(module)
    buffers.isolate()
    assert first.running_mean is second.running_mean
    first.running_mean += 1
    buffers.keep()
    assert first.running_mean is second.running_mean
    assert first.running_mean.tolist() == [1.0, 1.0]


def test_backward_works_after_the_buffers_have_moved_on() -> None:
    norm = nn.BatchNorm1d(2).eval()  # in evaluation mode autograd saves the running statistics
    buffers = ServerBuffers(norm)
    losses = []
    for _ in range(2):
        buffers.isolate()
        norm.running_mean += 1
        losses.append(norm(torch.ones(3, 2)).sum())
    buffers.keep()
    for loss in losses:
        loss.backward()
    assert norm.running_mean.tolist() == [1.0, 1.0]
