"""Time of a training step with a ring, a tree, an electrical or an optical switch (Fig. 7b).

A model, not a measurement: every number in it is a field of :class:`Assumptions`. The defaults are
the paper's (Sec. IV), which counts no latency and hides no communication behind the backward pass.
Bytes are counted by :mod:`optinc.reducers.measures.traffic` (Fig. 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from optinc.errors import ConfigurationError
from optinc.reducers.measures.traffic import code_bytes, ring_bytes
from optinc.signal.scenario import DOWNLINKS, Downlink, sum_bits

Method = Literal["ring", "tree", "electrical", "optinc"]
METHODS: tuple[Method, ...] = get_args(Method)


def _setting(default: float, meaning: str, *, least: float, most: float | None = None) -> Any:
    return field(default=default, metadata={"help": meaning, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Assumptions of the model, each described by the ``metadata["help"]`` of its field.

    The paper's formula gives OptINC N / (2(N-1)) of the ring's time: both send values of the same
    size, and block scales are not counted. Hence the defaults ``ring_bits = optinc_bits = 16`` and
    ``scale_bits = 0``. A float32 ring beside 16-bit codes is ``ring_bits = 32``.

    Raises:
        ConfigurationError: If a value is illegal; names the field and the legal values.
    """

    servers: int = _setting(4, "servers N", least=2)
    transceivers: int = _setting(8, "full-duplex transceivers of a server in use", least=1)
    link_gbps: float = _setting(800.0, "Gb/s of a transceiver in each direction", least=1e-3)
    teraflops: float = _setting(60.0, "peak TFLOP/s of a server", least=1e-3)
    utilisation: float = _setting(0.6, "share of the peak that is reached", least=1e-3, most=1)
    ring_bits: int = _setting(16, "bits of a value sent by ring and tree", least=1, most=64)
    optinc_bits: int = _setting(16, "bits of an OptINC code", least=1, most=64)
    downlink: Downlink = field(
        default="quantised",
        metadata={
            "help": "what comes back from an OptINC: the average quantised, or with its decimal "
            "part, which takes more bits",
            "choices": DOWNLINKS,
        },
    )
    electrical_bits: int = _setting(
        16, "bits of a value sent to an electrical switch that adds", least=1, most=64
    )
    electrical_rate: float = _setting(
        1.0, "share of the link rate at which an electrical switch adds", least=1e-3, most=1
    )
    block_size: int = _setting(256, "gradient values that share a scale", least=1)
    scale_bits: int = _setting(0, "bits of a block scale; 0 counts none", least=0, most=64)
    overlap: float = _setting(
        0.0, "share of the backward pass that communication hides behind", least=0, most=1
    )
    message_us: float = _setting(0.0, "latency of a message between servers, us", least=0)
    electrical_us: float = _setting(
        0.0, "latency of passing an electrical switch, conversions included, us", least=0
    )
    optical_us: float = _setting(0.0, "latency of passing an OptINC, us", least=0)
    optical_inputs: int = _setting(
        4, "servers below an OptINC; more need a cascade", least=2, most=16
    )
    electrical_inputs: int = _setting(
        64, "servers below an electrical switch; more need a cascade", least=2
    )

    def __post_init__(self) -> None:
        if self.downlink not in DOWNLINKS:
            raise ConfigurationError(
                f"downlink must be {' | '.join(DOWNLINKS)}, got {self.downlink!r}"
            )
        for name, spec in self.__dataclass_fields__.items():
            if "least" not in spec.metadata:
                continue
            value, least, most = getattr(self, name), spec.metadata["least"], spec.metadata["most"]
            # NaN is neither above nor below a limit.
            if not (value >= least and (most is None or value <= most)):
                legal = f"at least {least:g}" if most is None else f"{least:g} to {most:g}"
                raise ConfigurationError(f"{name} must be {legal}, got {value}")

    @property
    def optinc_received_bits(self) -> int:
        """Bits of a value that comes back from an OptINC, as of its scenario."""
        if self.downlink == "quantised":
            return self.optinc_bits
        levels = cascade_levels(servers=self.servers, fan_in=self.optical_inputs)
        return sum_bits(bits=self.optinc_bits, divisor=self.optical_inputs**levels)

    @property
    def bytes_per_second(self) -> float:
        """Bytes that a server sends per second, and receives at the same time."""
        return self.transceivers * self.link_gbps * 1e9 / 8


@dataclass(frozen=True, kw_only=True)
class Step:
    """Work of a server in a training step.

    Attributes:
        values: Gradient values.
        forward_flops: Floating-point operations of the forward pass (a multiply-add is two).
        backward_flops: Floating-point operations of the backward pass.
    """

    values: int
    forward_flops: float
    backward_flops: float

    def scaled(self, batch: float) -> Step:
        """Return the step of ``batch`` samples, if this is the step of one sample."""
        return Step(
            values=self.values,
            forward_flops=self.forward_flops * batch,
            backward_flops=self.backward_flops * batch,
        )


def count_flops(loss: Callable[[], Tensor]) -> tuple[int, int]:
    """Count the floating-point operations of a forward and a backward pass, without computing.

    Args:
        loss: Builds a model and its inputs, and returns a scalar loss. It runs on fake tensors,
            which have shapes but no values.

    Returns:
        FLOPs of the forward and of the backward pass, a multiply-add counted as two. Counted are
        matrix products, convolutions, and attention over all pairs of positions.
    """
    # The fused attention of CPUs is unknown to torch's counter, which would leave it out.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            value = loss()
        with FlopCounterMode(display=False) as backward:
            torch.autograd.backward(value)
    return forward.get_total_flops(), backward.get_total_flops()


def scale_share(*, bits: int, block_size: int, scale_bits: int) -> float:
    """Return the bits of block scales over those of the codes (Sec. III-A: below 0.4 %)."""
    return scale_bits / (block_size * bits)


def bytes_sent(method: Method, *, values: int, assumptions: Assumptions) -> float:
    """Return the bytes that a server sends for the reduction of a gradient.

    ring: 2(N-1)/N of the gradient. tree: twice the gradient, the double binary tree of Sanders et
    al. 2009, in which every server is an inner node of one tree and a leaf of the other. electrical
    (SHARP, SwitchML) and optinc: the gradient once, and received once.
    """
    return _bytes(method, values, assumptions, optinc_bits=assumptions.optinc_bits)


def bytes_received(method: Method, *, values: int, assumptions: Assumptions) -> float:
    """Return the bytes that a server receives: as many as it sends, or more with decimal parts."""
    return _bytes(method, values, assumptions, optinc_bits=assumptions.optinc_received_bits)


def _bytes(method: Method, values: int, assumptions: Assumptions, *, optinc_bits: int) -> float:
    a = assumptions
    if method == "ring":
        return ring_bytes(values=values, servers=a.servers, bytes_per_value=a.ring_bits / 8)
    if method == "tree":
        return 2 * values * a.ring_bits / 8
    if method == "electrical":
        return values * a.electrical_bits / 8
    return code_bytes(
        values=values,
        bits=optinc_bits,
        blocks=-(-values // a.block_size),
        scale_bytes=a.scale_bits / 8,
    )


def cascade_levels(*, servers: int, fan_in: int) -> int:
    """Return the levels of a cascade of switches of ``fan_in`` inputs that takes all servers."""
    levels, reach = 1, fan_in
    while reach < servers:
        levels, reach = levels + 1, reach * fan_in
    return levels


def latency_seconds(method: Method, assumptions: Assumptions) -> float:
    """Return the latency of a reduction in seconds; its bytes follow, pipelined in many parts.

    ring: 2(N-1) messages one after another; tree: 2 log2 N, rounded up. A cascade of L levels is
    one message passing up and down through 2L - 1 switches; where block scales are counted, OptINC
    sends one more message first, to agree on them.
    """
    a = assumptions
    if method == "ring":
        return 2 * (a.servers - 1) * a.message_us * 1e-6
    if method == "tree":
        return 2 * (a.servers - 1).bit_length() * a.message_us * 1e-6
    optical = method == "optinc"
    inputs = a.optical_inputs if optical else a.electrical_inputs
    switches = 2 * cascade_levels(servers=a.servers, fan_in=inputs) - 1
    passing = a.message_us + switches * (a.optical_us if optical else a.electrical_us)
    return (2 if optical and a.scale_bits else 1) * passing * 1e-6


def communication_seconds(method: Method, *, values: int, assumptions: Assumptions) -> float:
    """Return the time of a reduction in seconds.

    A server sends and receives at the same time: the way with more bytes sets the pace.
    """
    rate = assumptions.bytes_per_second
    if method == "electrical":
        rate *= assumptions.electrical_rate
    longer = max(
        bytes_sent(method, values=values, assumptions=assumptions),
        bytes_received(method, values=values, assumptions=assumptions),
    )
    return longer / rate + latency_seconds(method, assumptions)


def compute_seconds(flops: float, assumptions: Assumptions) -> float:
    """Return the time of ``flops`` floating-point operations in seconds."""
    return flops / (assumptions.teraflops * 1e12 * assumptions.utilisation)


def step_seconds(method: Method, *, step: Step, assumptions: Assumptions) -> float:
    """Return the time of a step in seconds.

    The sum of computing and of the communication that the backward pass does not hide.
    """
    backward = compute_seconds(step.backward_flops, assumptions)
    communication = communication_seconds(method, values=step.values, assumptions=assumptions)
    exposed = max(0.0, communication - assumptions.overlap * backward)
    return compute_seconds(step.forward_flops, assumptions) + backward + exposed


def saving(
    *, step: Step, assumptions: Assumptions, method: Method = "optinc", over: Method = "ring"
) -> float:
    """Return the share of a step's time that a method saves; negative where it is slower.

    With the default assumptions the result equals :func:`paper_saving`.
    """
    reference = step_seconds(over, step=step, assumptions=assumptions)
    return 1 - step_seconds(method, step=step, assumptions=assumptions) / reference


def paper_saving(*, compute: float, ring: float, servers: int) -> float:
    """Return the saving of OptINC over a ring by the paper's formula (Sec. IV, Fig. 7b).

    (r - r N / (2(N-1))) / (c + r), with computing time c and the ring's communication time r.
    """
    return (ring - ring * servers / (2 * (servers - 1))) / (compute + ring)


def batch_for_saving(
    target: float, *, sample: Step, assumptions: Assumptions, over: Method = "ring"
) -> float | None:
    """Return the batch of a server at which OptINC saves ``target`` of a step's time.

    The saving falls with the batch: there is more to compute, and no more to send.

    Args:
        target: Share to save, above 0.
        sample: The step of one sample.
        assumptions: Assumptions of the model.
        over: Method to compare OptINC with.

    Returns:
        The batch, not rounded; None if every batch, however small, saves less.

    Raises:
        ConfigurationError: If the target is not above 0.
    """
    if not target > 0:
        raise ConfigurationError(f"the saving must be above 0, got {target}")

    def saved(batch: float) -> float:
        return saving(step=sample.scaled(batch), assumptions=assumptions, over=over)

    if saved(0) <= target:
        return None
    low, high = 0.0, 1.0
    while saved(high) > target:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) > target else (low, middle)
    return high
