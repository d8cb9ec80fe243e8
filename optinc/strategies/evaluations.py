"""Evaluations by several servers: every sample counts once, and means are weighted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch.utils.data import DistributedSampler

from optinc.errors import ConfigurationError

Operation = Literal["mean", "sum", "max", "min"]


class Share(NamedTuple):
    """The part of a logged value that one server has computed.

    Attributes:
        operation: How the values of batches become one.
        value: Sum over the batches of this server, each times its weight where the operation is
            the mean; or their largest or smallest.
        weight: Sum of the weights, the samples of the batches; 1 unless the operation is the mean.
    """

    operation: Operation
    value: float
    weight: float


def combine(shares: Sequence[Share]) -> float:
    """Return the value over the batches of all servers, in double precision.

    Args:
        shares: Of the servers that have the value, in the order of the ranks.
    """
    values = [share.value for share in shares]
    match shares[0].operation:
        case "mean":
            weight = sum(share.weight for share in shares)
            return sum(values) / weight if weight else float("nan")
        case "sum":
            return sum(values)
        case "max":
            return max(values)
        case "min":
            return min(values)


def count_samples_once(loader: object) -> None:
    """Let the servers share the samples of a loader without repeating any, in place.

    ``DistributedSampler`` repeats the first samples until all servers have equally many, and they
    would count twice. Other samplers, and ``drop_last=True``, are left alone.

    Args:
        loader: A loader of torch, with or without a sampler for several servers.

    Raises:
        ConfigurationError: If there are fewer samples than servers.
    """
    batches = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), getattr(batches, "sampler", None)):
        if not isinstance(sampler, DistributedSampler) or sampler.drop_last:
            continue
        samples = len(sampler.dataset)  # type: ignore[arg-type]
        if samples < sampler.num_replicas:
            raise ConfigurationError(
                f"an evaluation of {samples} samples cannot be shared by {sampler.num_replicas} "
                "servers: every server needs a sample; use fewer servers or a larger set"
            )
        sampler.total_size = samples
        sampler.num_samples = len(range(sampler.rank, samples, sampler.num_replicas))
