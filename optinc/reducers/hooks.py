"""Communication hooks of torch's DistributedDataParallel as reducers: fp16, bf16 and PowerSGD.

The hooks are torch's own. Each is given the whole flat gradient as one bucket, where DDP would call
it for buckets of about 25 MB. Between real processes it exchanges data itself; for N virtual
servers it is run N times in threads that take turns (:mod:`.threaded_group`).

Both forms return the same bits for one or two servers, whose sum has only one order. For more, gloo
and NCCL add in an order of their own, virtual servers in that of the ranks: results differ by the
rounding of N-1 additions in the format that is sent.
"""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from typing import Any, Literal, cast, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
    fp16_compress_hook,
)
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import (
    PowerSGDState,
    powerSGD_hook,
)
from torch.futures import Future

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.error_measure import add_error, sample
from optinc.reducers.group import ServerGroup
from optinc.reducers.threaded_group import run_servers
from optinc.reducers.traffic import powersgd_factors, ring_bytes

Hook = Callable[[Any, Any], Future[Tensor]]

HalfPrecision = Literal["fp16", "bf16"]

HALF_PRECISION_HOOKS: dict[HalfPrecision, Hook] = {
    "fp16": fp16_compress_hook,
    "bf16": bf16_compress_hook,
}


class FlatBucket:
    """The whole gradient of one server as the only bucket of a backward pass.

    Args:
        buffer_P: Float tensor [P]; hooks work in it.
        shapes: Shapes of its parameters, in flat order.
    """

    def __init__(self, buffer_P: Tensor, shapes: Sequence[torch.Size]) -> None:
        self._buffer_P = buffer_P
        self._shapes = shapes

    def buffer(self) -> Tensor:
        """Return the flat gradient [P]."""
        return self._buffer_P

    def index(self) -> int:
        """Return the number of this bucket."""
        return 0

    def is_last(self) -> bool:
        """Say that no bucket follows in this backward pass."""
        return True

    def gradients(self) -> list[Tensor]:
        """Return the gradients of all parameters that have values, as views of the buffer.

        Scalars have shape [1]: torch's hooks ask for a first dimension.
        """
        parts = torch.split(self._buffer_P, [prod(shape) for shape in self._shapes])
        return [
            part.view(shape if shape else (1,))
            for part, shape in zip(parts, self._shapes, strict=True)
            if len(part)
        ]


class HookReducer(Reducer):
    """A reducer that runs one of torch's communication hooks.

    Every reduction measures the error against the exact mean, what error feedback will make up for
    included: of virtual servers on all values, of real ones on a sample of large gradients.
    """

    _shapes: Sequence[torch.Size] = ()

    @abstractmethod
    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        """Return the state that the hook of each of the servers held here is given.

        Args:
            gradient: Tensor [..., P] of the dtype and device of the gradients.
            held: Servers in this process.
        """

    def _surroundings(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return what the hooks of all servers run in, as far as it is global."""
        return nullcontext()

    @abstractmethod
    def _call(self, state: Any, group: dist.ProcessGroup, bucket: FlatBucket) -> Tensor:
        """Run the hook of one server, and return the reduced gradient [P]."""

    @abstractmethod
    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        """Keep what the servers must remember; return the bytes that each of them has sent."""

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        states = self._begin(gradients_NP, self.servers)

        def serve(group: dist.ProcessGroup) -> Tensor:
            rank = group.rank()
            # Hooks write into their bucket.
            return self._call(states[rank], group, self._bucket(gradients_NP[rank].clone()))

        with self._surroundings(gradients_NP.device):
            reduced_P = run_servers(self.servers, serve, device=gradients_NP.device)[0]
        add_error(self.accounting, gradients_NP, reduced_P)
        self._account(out_P.numel(), self._end(states, reduced_P))
        out_P.copy_(reduced_P)

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        (state,) = self._begin(gradient_P, 1)
        sample_NS = group.all_gather(sample(gradient_P))
        with self._surroundings(gradient_P.device):
            reduced_P = self._call(state, group.process_group, self._bucket(gradient_P))
        gradient_P.copy_(reduced_P)
        add_error(self.accounting, sample_NS, sample(gradient_P))
        self._account(gradient_P.numel(), self._end([state], gradient_P))

    def _bucket(self, buffer_P: Tensor) -> FlatBucket:
        return FlatBucket(buffer_P, self._shapes)

    def _account(self, values: int, sent: float) -> None:
        self.accounting.reductions += 1
        self.accounting.values += values
        self.accounting.bytes_sent += sent
        self.accounting.bytes_ring += ring_bytes(
            values=values, servers=self.servers, bytes_per_value=4
        )


class HalfPrecisionReducer(HookReducer):
    """Averages in half precision: every server's share of the mean is sent and added so.

    torch's ``fp16_compress_hook`` and ``bf16_compress_hook``. Non-finite gradients pass through;
    with fp16 a mean beyond 65504 becomes infinite. Results of N > 2 real and virtual servers differ
    by at most 2 (N-1) u of the mean absolute gradient, u = 2^-11 (fp16) or 2^-8 (bf16).

    Args:
        servers: Number of servers N.
        format: ``fp16`` or ``bf16``.

    Raises:
        ConfigurationError: If a value is illegal; names the setting.
    """

    def __init__(self, *, servers: int, format: HalfPrecision) -> None:  # noqa: A002
        super().__init__(servers=servers)
        if format not in get_args(HalfPrecision):
            raise ConfigurationError(
                f"reducer.format must be {' | '.join(get_args(HalfPrecision))}, got {format!r}"
            )
        self.format = format

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {**super().identity(), "format": self.format}

    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        return [None] * held

    def _call(self, state: Any, group: dist.ProcessGroup, bucket: FlatBucket) -> Tensor:
        return HALF_PRECISION_HOOKS[self.format](group, bucket).wait()

    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        return ring_bytes(values=reduced_P.numel(), servers=self.servers, bytes_per_value=2)


class PowerSGDReducer(HookReducer):
    """Averages low-rank approximations, and adds what they leave out to the next gradient.

    torch's ``powerSGD_hook`` with error feedback and warm start. It compresses the matrix of every
    parameter on its own, so it must know their shapes: strategies call :meth:`lay_out`.

    A reduction that returns NaN or infinity, because a gradient held some, leaves the memories as
    they were; in torch's hook they would be NaN from then on.

    Args:
        servers: Number of servers N.
        rank: Largest rank of the approximation.
        start_iteration: Reductions that are exact before compression starts.
        min_compression_rate: Matrices that would not shrink by this factor are sent as they are.
        orthogonalization_epsilon: Added to the norms of columns where torch orthogonalises by
            Gram-Schmidt: rank 2 at most, or half precision.
        seed: Seed of the first factors.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    def __init__(
        self,
        *,
        servers: int,
        rank: int = 4,
        start_iteration: int = 10,
        min_compression_rate: float = 2.0,
        orthogonalization_epsilon: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__(servers=servers)
        _check("rank", rank, rank >= 1, "at least 1")
        _check("start_iteration", start_iteration, start_iteration > 1, "at least 2")
        _check("min_compression_rate", min_compression_rate, min_compression_rate > 0, "above 0")
        epsilon = orthogonalization_epsilon
        _check("orthogonalization_epsilon", epsilon, epsilon >= 0, "at least 0")
        _check("seed", seed, 0 <= seed < 2**32, "0 to 2^32 - 1")
        self.rank = rank
        self.start_iteration = start_iteration
        self.min_compression_rate = min_compression_rate
        self.orthogonalization_epsilon = orthogonalization_epsilon
        self.seed = seed
        self._iteration = 0
        self._random: tuple[Any, ...] | None = None
        self._errors: list[Tensor] = []
        self._factors: tuple[Tensor, Tensor] | None = None

    def lay_out(self, shapes: Sequence[torch.Size]) -> None:
        """See :meth:`Reducer.lay_out`."""
        self._shapes = [torch.Size(shape) for shape in shapes]

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {
            **super().identity(),
            "rank": self.rank,
            "start_iteration": self.start_iteration,
            "min_compression_rate": self.min_compression_rate,
            "orthogonalization_epsilon": self.orthogonalization_epsilon,
            "seed": self.seed,
        }

    def server_state(self) -> dict[str, Tensor]:
        """Return what the approximations left out: ``error`` [servers held, P], once they began."""
        return {"error": torch.stack(self._errors)} if self._errors else {}

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Reducer.load_server_state`."""
        self._errors = list(state["error"].clone()) if state else []

    def shared_state(self) -> dict[str, Any]:
        """Return iterations, and once there are any, random numbers and factors ``p`` and ``q``."""
        state: dict[str, Any] = {"iteration": self._iteration}
        if self._random is not None:
            _, keys, position, *_ = self._random
            state.update(random_keys=torch.from_numpy(keys.astype("int64")), random_at=position)
        if self._factors is not None:
            state["p"], state["q"] = self._factors
        return state

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """See :meth:`Reducer.load_shared_state`."""
        self._iteration = state["iteration"]
        self._random = self._factors = None
        if "random_keys" in state:
            keys = state["random_keys"].cpu().numpy().astype("uint32")
            self._random = ("MT19937", keys, state["random_at"], 0, 0.0)
        if "p" in state:
            self._factors = state["p"].clone(), state["q"].clone()

    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        values, factors = gradient.shape[-1], self._numbers()
        if not self._shapes:
            raise ConfigurationError(
                "reducer=powersgd compresses the matrix of every parameter on its own: call "
                "lay_out([parameter.shape for parameter in ...]) before the first reduction"
            )
        if sum(prod(shape) for shape in self._shapes) != values:
            raise ConfigurationError(
                f"the shapes given to lay_out have {sum(prod(shape) for shape in self._shapes)} "
                f"values, the gradient {values}"
            )
        if self._factors is not None and tuple(len(f) for f in self._factors) != factors[:2]:
            raise ConfigurationError(
                "the memory of reducer=powersgd is that of other parameters, another reducer.rank "
                "or another reducer.min_compression_rate; start with a new reducer"
            )
        if self._errors and [len(error) for error in self._errors] != [values] * held:
            raise ConfigurationError(
                f"the error memory of reducer=powersgd is that of {len(self._errors)} servers with "
                f"{len(self._errors[0])} values, but {held} servers with {values} values go on "
                "here; continue with the same servers or start with a new reducer"
            )
        with _quiet():
            return [self._state(gradient, server) for server in range(held)]

    def _state(self, gradient: Tensor, server: int) -> PowerSGDState:
        """Build the state of one server anew, so that what lasts is what checkpoints hold."""
        state = PowerSGDState(
            process_group=None,
            matrix_approximation_rank=self.rank,
            start_powerSGD_iter=self.start_iteration,
            min_compression_rate=self.min_compression_rate,
            orthogonalization_epsilon=self.orthogonalization_epsilon,
            random_seed=self.seed,
        )
        state.iter = self._iteration
        if self._random is not None:
            state.rng.set_state(self._random)
        if self._errors:
            state.error_dict[0] = self._errors[server].to(gradient)
        if self._factors is not None:
            # torch overwrites them.
            p, q = (factor.to(gradient, copy=True) for factor in self._factors)
            state.p_memory_dict[0], state.q_memory_dict[0] = p, q
        return state

    @contextmanager
    def _surroundings(self, device: torch.device) -> Iterator[None]:
        # The hook seeds all random numbers, but gives only those of the CPU their state back.
        devices = [device] if device.type == "cuda" else []
        with _quiet(), torch.random.fork_rng(devices):
            yield

    def _call(self, state: Any, group: dist.ProcessGroup, bucket: FlatBucket) -> Tensor:
        state.process_group = group
        return cast("Hook", powerSGD_hook)(state, bucket).wait()

    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        sent = reduced_P.numel()
        if self._iteration >= self.start_iteration:
            sent = sum(self._numbers())
            if torch.isfinite(reduced_P).all():
                self._errors = [state.error_dict[0] for state in states]
                self._factors = states[0].p_memory_dict[0], states[0].q_memory_dict[0]
            self._random = states[0].rng.get_state()
        self._iteration += 1
        return ring_bytes(values=sent, servers=self.servers, bytes_per_value=4)

    def _numbers(self) -> tuple[int, int, int]:
        return powersgd_factors(
            self._shapes, rank=self.rank, min_compression_rate=self.min_compression_rate
        )


def _check(name: str, value: float, legal: bool, values: str) -> None:
    if not legal:
        raise ConfigurationError(f"reducer.{name} must be {values}, got {value}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PowerSGD from logging its settings and buffers at every reduction; warnings stay."""
    logger = logging.getLogger(powerSGD_hook.__module__)
    level = logger.level
    logger.setLevel(max(logging.WARNING, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(level)
