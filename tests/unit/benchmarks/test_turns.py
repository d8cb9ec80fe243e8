"""Turns of jobs in a group of one server: time, CPU time and bytes of each are told apart."""

from __future__ import annotations

import math
import socket
import time

import pytest

from benchmarks.turns import median_difference, median_ratio, take_turns
from optinc.reducers.group import ServerGroup

pytestmark = pytest.mark.usefixtures("one_server")


def test_jobs_take_turns_and_are_told_apart(one_server: ServerGroup) -> None:
    assert one_server.size == 1
    order = []
    left, right = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with left, right:
        right.connect(left.getsockname())
        far, _ = left.accept()
        with far:

            def send() -> None:
                order.append("send")
                right.sendall(bytes(12_345))
                received = 0
                while received < 12_345:
                    received += len(far.recv(12_345))

            def sleep() -> None:
                order.append("sleep")
                time.sleep(0.02)

            def compute() -> None:
                order.append("compute")
                end = time.process_time() + 0.02
                while time.process_time() < end:
                    pass

            turns = take_turns([send, sleep, compute], least=2, most=4, seconds=math.inf)
    assert order == ["send", "sleep", "compute"] * 4
    assert turns.sent == turns.most_sent == [[12_345.0] * 4, [0.0] * 4, [0.0] * 4]
    assert min(turns.seconds[1]) >= 0.02
    assert max(turns.cpu_seconds[1]) < 0.02 <= min(turns.cpu_seconds[2])


def test_time_ends_the_rounds_after_the_least_number() -> None:
    turns = take_turns([lambda: None], least=3, most=1000, seconds=0.0)
    assert len(turns.seconds[0]) == 3


def test_medians_are_those_of_pairs() -> None:
    # A load that slows a whole round cancels in the ratio.
    first, second = [1.0, 10.0, 3.0], [2.0, 20.0, 4.0]
    assert median_ratio(second, first) == 2.0
    assert median_difference(second, first) == 1.0
