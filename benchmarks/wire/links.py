"""Links of a given speed between the processes of one machine, and their bytes.

Every server has a network namespace with one interface, joined by a cable to a switch:

    server 0   eth0 ---- port0 \
    server 1   eth0 ---- port1  bridge       (a namespace of its own)
    server 2   eth0 ---- port2 /

Both ends of a cable let no more than the link's speed pass (``tc-tbf``), so that it is full duplex,
and a switch port to which several servers send at once fills its queue.

The namespaces have no names: they live as long as a process in them. Those processes read a pipe of
this one and end with it, however it ends, and the kernel removes all else. The interfaces of the
machine itself are never touched.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from optinc.errors import ConfigurationError

PROGRAMS = ("unshare", "nsenter", "ip", "tc")
"""Programs of util-linux and iproute2 that make links."""

BURST = "128kb"
"""Bytes that may pass at once: two of the largest packets that the kernel does not cut."""

QUEUE = "4mb"
"""Bytes that wait at either end of a cable before packets are dropped."""

CONGESTION_CONTROL = "cubic"
"""Congestion control of TCP, Linux' default."""

NETWORK = "10.213.0"
"""First three numbers of the servers' addresses, which exist in their namespaces only."""


@dataclass(frozen=True)
class Place:
    """Where a server runs.

    Attributes:
        prefix: Words before the command line of a program that is to run there.
        environment: Variables by which gloo finds its way there.
    """

    prefix: tuple[str, ...]
    environment: dict[str, str]


@contextmanager
def loopback(servers: int) -> Iterator[list[Place]]:
    """Let servers use the machine's own loopback, as fast as it is."""
    yield [Place((), {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"})] * servers


@contextmanager
def star(servers: int, *, gigabits: float) -> Iterator[list[Place]]:
    """Join servers to a switch by cables of a given speed, and remove all afterwards.

    Args:
        servers: Number of servers.
        gigabits: Speed of every cable in each direction, Gb/s of Ethernet frames.

    Raises:
        ConfigurationError: If this machine does not allow it; says why and what to do.
    """
    with ExitStack() as stack:
        try:
            places = _build(servers, gigabits, stack)
        except (OSError, _RefusedError) as error:
            raise ConfigurationError(
                f"links of {gigabits:g} Gb/s need network namespaces, which this machine refuses "
                f"({error}): run as root, below `unshare --map-root-user`, or with --links loopback"
            ) from None
        yield places


def sent_through_cable() -> int:
    """Return the bytes of all frames that this server has sent, in the namespace of a star.

    Large packets are counted as the frames into which a network card would cut them.
    """
    shown = _run(["tc", "-s", "-j", "qdisc", "show", "dev", "eth0"])
    return int(json.loads(shown)[0]["bytes"])


class _RefusedError(Exception):
    """A program failed; the message is what it wrote."""


def _build(servers: int, gigabits: float, stack: ExitStack) -> list[Place]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise _RefusedError(f"no program {', '.join(missing)}")
    switch, *holders = (stack.enter_context(_namespace()) for _ in range(servers + 1))
    shape = f"root tbf rate {gigabits * 1000:g}mbit burst {BURST} limit {QUEUE}"
    # Without address, so that the switch itself says nothing.
    lines = ["link add bridge type bridge", "link set bridge up"]
    for rank, holder in enumerate(holders):
        lines.append(f"link add port{rank} type veth peer name eth0 netns {holder.pid}")
        lines.append(f"link set port{rank} master bridge up")
    _run([*_inside(switch), "ip", "-batch", "-"], lines)
    ports = [f"qdisc add dev port{rank} {shape}" for rank in range(servers)]
    _run([*_inside(switch), "tc", "-batch", "-"], ports)
    for rank, holder in enumerate(holders):
        own = f"{NETWORK}.{rank + 1}"
        lines = [
            "link set lo up",
            f"address add {own}/24 dev eth0",
            "link set eth0 up",
            f"route replace {NETWORK}.0/24 dev eth0 src {own} congctl {CONGESTION_CONTROL}",
        ]
        _run([*_inside(holder), "ip", "-batch", "-"], lines)
        _run([*_inside(holder), "tc", "-batch", "-"], [f"qdisc add dev eth0 {shape}"])
    environment = {"MASTER_ADDR": f"{NETWORK}.1", "GLOO_SOCKET_IFNAME": "eth0"}
    return [Place(_inside(holder), environment) for holder in holders]


@contextmanager
def _namespace() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a network namespace of its own, which ends when this process does."""
    process = subprocess.Popen(
        ["unshare", "--net", "cat"],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C reaches this process only.
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):  # it has ended, and says why
            process.stdin.write(b"ready\n")
        if process.stdout.readline() != b"ready\n":
            raise _RefusedError(process.stderr.read().decode().strip())
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def _inside(holder: subprocess.Popen[bytes]) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{holder.pid}/ns/net")


def _run(command: list[str], lines: list[str] | None = None) -> str:
    """Run a program, and return what it wrote.

    Raises:
        _RefusedError: If it fails.
    """
    text = None if lines is None else "\n".join(lines) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _RefusedError(done.stderr.strip().splitlines()[0] if done.stderr else command[0])
    return done.stdout
