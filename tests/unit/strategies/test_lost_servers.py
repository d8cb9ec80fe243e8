from __future__ import annotations

from datetime import timedelta

import pytest
from torch.distributed import HashStore

from optinc.errors import ServerLostError
from optinc.strategies import lost_servers
from optinc.strategies.lost_servers import Attendance


def attendances(count: int) -> list[Attendance]:
    store = HashStore()
    return [Attendance(store, rank=rank, size=count) for rank in range(count)]


@pytest.mark.parametrize(
    "message",
    [
        "[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1",
        "Timed out waiting 120000ms for recv operation",
        "NCCL error: remote process exited",
        "Broken pipe",
    ],
)
def test_the_error_names_the_servers_that_have_not_arrived(message: str) -> None:
    first, second, third = attendances(3)
    first.sign()
    third.sign()
    with (
        pytest.raises(ServerLostError) as caught,
        first.watch(30.0),
    ):
        raise RuntimeError(f"{message}\nmore")
    assert str(caught.value) == (
        "server 0 waited at reduction 1 for server 1, which died or hangs "
        f"(strategy.timeout_seconds=30): {message}"
    )
    assert second.absent() == []


def test_several_absent_servers_are_all_named() -> None:
    first, *_ = attendances(3)
    first.sign()
    assert first.absent() == [1, 2]
    with pytest.raises(ServerLostError, match="for server 1, 2, which"), first.watch(1.0):
        raise RuntimeError("timeout")


def test_a_server_lost_after_it_arrived_is_not_guessed() -> None:
    first, second = attendances(2)
    first.sign()
    second.sign()
    with pytest.raises(ServerLostError, match="for some server, which died"), first.watch(1.0):
        raise RuntimeError("Connection reset by peer")


def test_rank_0_is_absent_where_the_store_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lost_servers, "ANSWER", timedelta(milliseconds=20))
    assert Attendance(HashStore(), rank=1, size=2).absent() == [0]
    assert Attendance(HashStore(), rank=0, size=2).absent() == []


def test_other_errors_pass() -> None:
    (alone,) = attendances(1)
    with pytest.raises(RuntimeError, match="shape mismatch"), alone.watch(1.0):
        raise RuntimeError("shape mismatch")
    lost = ServerLostError("server 1 died: timeout")
    with pytest.raises(ServerLostError) as caught, alone.watch(1.0):
        raise lost
    assert caught.value is lost
    with alone.watch(1.0):
        pass
