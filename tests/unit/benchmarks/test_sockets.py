"""Counters of sockets: a known number of bytes through one, and gloo's all-reduce.

A ring all-reduce of n servers sends 2(n-1)/n of the tensor from each; gloo's sends no more than a
message header a segment beside it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from benchmarks.sockets import Traffic, counted, interface_traffic, socket_traffic


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with client, listener.accept()[0] as server:
            yield client, server


def send(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    """Send and receive zeros, in pieces that fit into the buffers."""
    for start in range(0, size, 10_000):
        piece = min(10_000, size - start)
        sender.sendall(bytes(piece))
        received = 0
        while received < piece:
            received += len(receiver.recv(piece))


def test_payload_of_own_sockets_is_counted_to_the_byte() -> None:
    with connection() as (client, server), counted() as traffic:
        send(client, server, 123_457)
        send(server, client, 1_003)
    # Both ends are this process's.
    assert traffic == Traffic(sent=124_460, received=124_460)


def test_ring_all_reduce_of_gloo_sends_what_a_ring_must() -> None:
    servers, values = 3, 600_000
    store = dist.HashStore()

    def serve(rank: int) -> dist.ProcessGroup:
        group = dist.ProcessGroupGloo(store, rank, servers, timedelta(seconds=30))
        group.allreduce([torch.ones(values)]).wait()
        return group

    with ThreadPoolExecutor(servers) as pool:
        groups = list(pool.map(serve, range(servers)))
        with counted() as traffic:
            for work in [group.allreduce([torch.ones(values)]) for group in groups]:
                work.wait()
    ring = servers * 2 * (servers - 1) / servers * 4 * values
    assert ring <= traffic.sent <= 1.001 * ring
    assert ring <= traffic.received <= 1.001 * ring


def test_sockets_are_told_apart() -> None:
    with connection() as (client, server):
        known = set(socket_traffic())
        with connection() as (other, end):
            send(client, server, 5_000)
            send(other, end, 7_000)
            new = {inode: t for inode, t in socket_traffic().items() if inode not in known}
    assert sum(t.sent for t in new.values()) == 7_000


def test_what_was_sent_before_is_not_counted() -> None:
    with connection() as (client, server):
        send(client, server, 999)
        with counted() as traffic:
            send(client, server, 7)
    assert traffic == Traffic(sent=7, received=7)


def test_other_sockets_carry_nothing() -> None:
    left, right = socket.socketpair()
    with left, right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM), counted() as traffic:
        left.sendall(b"unix")
        assert right.recv(4) == b"unix"
    assert traffic == Traffic()


def test_interfaces_count_headers_too() -> None:
    with connection() as (client, server):
        before = interface_traffic()["lo"]
        send(client, server, 100_000)
        carried = interface_traffic()["lo"] - before
    # Other tests may use the interface at the same time.
    assert carried.sent > 100_000
    assert carried.received > 100_000
