"""The collectives of real servers; tests/integration/test_peers.py has groups of several."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch

from optinc.reducers.group import ServerGroup
from optinc.reducers.ring import RingReducer
from tests.unit.reducers.gradients import gradients


def test_without_processes_there_is_no_group() -> None:
    with pytest.raises(AssertionError, match="not initialised"):
        ServerGroup.world()


def test_one_server_is_a_group(one_server: ServerGroup) -> None:
    assert (one_server.rank, one_server.size) == (0, 1)
    row = gradients(10)
    for collective in (one_server.sum, one_server.maximum):
        tensor = row.clone()
        collective(tensor)
        assert torch.equal(tensor, row)
    assert one_server.gather_objects({"a": 1}) == [{"a": 1}]


def test_exchanged_rows_keep_their_order_where_they_are_strided(one_server: ServerGroup) -> None:
    strided = gradients(6, 4).T
    for received in (one_server.all_gather(strided), one_server.all_to_all(strided[None])):
        assert torch.equal(received, strided[None])


def test_the_timeout_reaches_the_backend(one_server: ServerGroup) -> None:
    one_server.set_timeout(timedelta(seconds=7))
    backend = one_server.process_group._get_backend(torch.device("cpu"))
    assert backend.options._timeout == timedelta(seconds=7)


def test_collectives_are_metered(one_server: ServerGroup) -> None:
    one_server.sum(torch.zeros(10))
    one_server.all_gather(torch.zeros(3, dtype=torch.int32))
    assert one_server.meter.bytes == 0, "a single server sends nothing"
    assert one_server.meter.seconds > 0


def test_a_reduction_accounts_for_waiting_apart_from_work(one_server: ServerGroup) -> None:
    reducer = RingReducer(servers=1)
    reducer.all_reduce(gradients(10), one_server)
    accounting = reducer.accounting
    assert accounting.bytes_collectives == 0
    assert 0 < accounting.seconds_waiting < accounting.seconds
    assert accounting.summary()["reducer_seconds_waiting"] == accounting.seconds_waiting


def test_a_twin_is_another_group_with_the_timeout_of_the_first(one_server: ServerGroup) -> None:
    one_server.set_timeout(timedelta(seconds=9))
    twin = one_server.twin()
    assert twin.process_group is not one_server.process_group
    assert twin.timeout == timedelta(seconds=9)
    twin.sum(torch.ones(2))
