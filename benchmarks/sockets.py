"""Bytes that TCP sockets and network interfaces have carried, as the operating system counts them.

    with counted() as traffic:
        dist.all_reduce(tensor)
    traffic.sent, traffic.received

Sockets are those of this process, in whatever library they were opened; the kernel's ``tcp_info``
tells how much each has carried. Needs Linux (4.19 or newer), but no rights and no other program.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILES = Path("/proc/self/fd")
"""Open files of this process, on Linux."""

INTERFACES = Path("/proc/self/net/dev")
"""Counters of the network interfaces in this process's network namespace, on Linux."""

TCP_INFO_BYTES = 216
"""Of ``struct tcp_info`` (linux/tcp.h) as far as ``tcpi_bytes_retrans``."""

RECEIVED_AT, SENT_AT = 128, 200
"""Offsets of ``tcpi_bytes_received``, and of ``tcpi_bytes_sent`` with ``tcpi_bytes_retrans``."""


@dataclass
class Traffic:
    """Bytes sent and received.

    Attributes:
        sent: Bytes sent; for sockets without what was sent again after a loss.
        received: Bytes received.
    """

    sent: int = 0
    received: int = 0

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.sent - other.sent, self.received - other.received)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.sent + other.sent, self.received + other.received)


@contextlib.contextmanager
def counted() -> Iterator[Traffic]:
    """Count the payload that this process's TCP sockets carry in a block; the fields are set after.

    All sockets count, also those to ``torch.distributed``'s store. What a socket carried before it
    was closed inside the block is lost. What waits in a send buffer at the end is not counted: wait
    for the receiver first (a barrier).
    """
    before = socket_traffic()
    traffic = Traffic()
    yield traffic
    total = Traffic()
    for inode, after in socket_traffic().items():
        total = total + after - before.get(inode, Traffic())
    traffic.sent, traffic.received = total.sent, total.received


def socket_traffic() -> dict[int, Traffic]:
    """Return the payload that each TCP socket of this process has carried, by inode.

    Raises:
        OSError: If the operating system does not count it.
    """
    found = {}
    for file in FILES.iterdir():
        # Other threads open and close files meanwhile.
        with contextlib.suppress(FileNotFoundError):
            target = str(file.readlink())
            if target.startswith("socket:["):
                traffic = _tcp_traffic(int(file.name))
                if traffic is not None:
                    found[int(target[len("socket:[") : -1])] = traffic
    return found


def _tcp_traffic(descriptor: int) -> Traffic | None:
    """Return what a socket has carried; None unless it is a TCP connection."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    with socket.socket(fileno=copy) as opened:
        inet = opened.family in (socket.AF_INET, socket.AF_INET6)
        if not inet or opened.type != socket.SOCK_STREAM:
            return None
        info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    if len(info) < TCP_INFO_BYTES:
        raise OSError("this kernel does not count the bytes of TCP sockets (Linux 4.19 does)")
    sent, sent_again = struct.unpack_from("=QQ", info, SENT_AT)
    (received,) = struct.unpack_from("=Q", info, RECEIVED_AT)
    return Traffic(sent - sent_again, received)


def interface_traffic() -> dict[str, Traffic]:
    """Return what each network interface has carried, with all headers, by name.

    Interfaces are those of this process's network namespace. Ethernet headers count, since the
    kernel sees them; preambles and gaps on a real cable do not.
    """
    found = {}
    for line in INTERFACES.read_text(encoding="ascii").splitlines()[2:]:
        name, numbers = line.split(":", 1)
        fields = numbers.split()
        found[name.strip()] = Traffic(sent=int(fields[8]), received=int(fields[0]))
    return found
