"""PowerSGD (Vogels et al. 2019, arXiv:1905.13727): low-rank gradients with error feedback."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import (
    PowerSGDState,
    powerSGD_hook,
)

from optinc.errors import ConfigurationError
from optinc.reducers.measures.traffic import powersgd_factors, ring_bytes
from optinc.reducers.peers.hook import FlatBucket, Hook, HookReducer


@final
class PowerSGDReducer(HookReducer):
    """Averages low-rank approximations, and adds their errors to the next gradients.

    torch's ``powerSGD_hook`` with error feedback and warm start. It compresses the matrix of every
    parameter on its own, so it must know the shapes: strategies call :meth:`lay_out`.

    A reduction that returns NaN or infinity, because a gradient held some, does not change errors
    and factors; in torch's hook they would be NaN from then on.

    Args:
        servers: Number of servers N.
        rank: Largest rank of the approximation.
        start_iteration: Reductions that are exact before compression starts.
        min_compression_rate: Least factor by which a matrix must shrink; others are sent in full.
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
        self._shapes: Sequence[torch.Size] = ()
        self._iteration = 0
        self._random: tuple[Any, ...] | None = None
        self._errors: list[Tensor] = []
        self._factors: tuple[Tensor, Tensor] | None = None

    @property
    def feeds_back(self) -> bool:
        """See :meth:`Reducer.feeds_back`."""
        return True

    def lay_out(self, shapes: Sequence[torch.Size], names: Sequence[str] = ()) -> None:
        """See :meth:`Reducer.lay_out`."""
        super().lay_out(shapes, names)
        self._shapes = [torch.Size(shape) for shape in shapes]

    def forget_parameters(self) -> None:
        """Forget errors and factors; iterations and random state go on."""
        self._errors, self._factors = [], None

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
        """Return ``error`` [servers held, P] of the approximations, once compression began."""
        return {"error": torch.stack(self._errors)} if self._errors else {}

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Reducer.load_server_state`."""
        self._errors = list(state["error"].clone()) if state else []

    def shared_state(self) -> dict[str, Any]:
        """Return iterations, and once compression began, random state and factors ``p``, ``q``."""
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
        values, factors = gradient.shape[-1], self._sizes()
        if not self._shapes:
            raise ConfigurationError(
                "reducer=powersgd compresses the matrix of every parameter on its own: call "
                "lay_out([parameter.shape for parameter in ...]) before the first reduction"
            )
        if self._factors is not None and tuple(len(f) for f in self._factors) != factors[:2]:
            raise ConfigurationError(
                "the factors of reducer=powersgd belong to other parameters, another reducer.rank "
                "or another reducer.min_compression_rate; start with a new reducer"
            )
        if self._errors and [len(error) for error in self._errors] != [values] * held:
            raise ConfigurationError(
                f"the errors of reducer=powersgd belong to {len(self._errors)} servers with "
                f"{len(self._errors[0])} values, but {held} servers with {values} values go on "
                "here; continue with as many servers or start with a new reducer"
            )
        with _quiet():
            return [self._state(gradient, server) for server in range(held)]

    def _state(self, gradient: Tensor, server: int) -> PowerSGDState:
        """Build the state of one server anew, so that only the state of checkpoints lasts."""
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
        # The hook seeds all random numbers, but restores the state of the CPU's only.
        devices = [device] if device.type == "cuda" else []
        with _quiet(), torch.random.fork_rng(devices):
            yield

    def _call(self, state: Any, group: dist.ProcessGroup, gradient_P: Tensor) -> Tensor:
        state.process_group = group
        bucket = FlatBucket(gradient_P, self._shapes)
        return cast("Hook", powerSGD_hook)(state, bucket).wait()

    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        sent = reduced_P.numel()
        if self._iteration >= self.start_iteration:
            sent = sum(self._sizes())
            if torch.isfinite(reduced_P).all():
                self._errors = [state.error_dict[0] for state in states]
                self._factors = states[0].p_memory_dict[0], states[0].q_memory_dict[0]
            self._random = states[0].rng.get_state()
        self._iteration += 1
        return ring_bytes(values=sent, servers=self.servers, bytes_per_value=4)

    def _sizes(self) -> tuple[int, int, int]:
        return powersgd_factors(
            self._shapes, rank=self.rank, min_compression_rate=self.min_compression_rate
        )


def _check(name: str, value: float, legal: bool, values: str) -> None:
    if not legal:
        raise ConfigurationError(f"reducer.{name} must be {values}, got {value}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the settings and buffers that PowerSGD logs at every reduction; warnings stay."""
    logger = logging.getLogger(powerSGD_hook.__module__)
    level = logger.level
    logger.setLevel(max(logging.WARNING, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(level)
