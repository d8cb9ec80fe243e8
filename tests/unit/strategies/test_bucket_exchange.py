from __future__ import annotations

from collections.abc import Sequence
from queue import Empty, Queue
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from optinc.errors import ConfigurationError, SkipStep
from optinc.reducers.group import Meter, ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import Part, PartwiseReducer, Receive
from optinc.reducers.wire.table import BlockTable, Place
from optinc.strategies.bucket_exchange import UNDER_WAY, BucketExchange
from optinc.strategies.flat_parameters import FlatParameters


class Bucket:
    """What DDP hands to its hook: some parameters, and their gradients in one buffer."""

    def __init__(self, parameters: list[nn.Parameter], *, last: bool, start: float) -> None:
        size = sum(parameter.numel() for parameter in parameters)
        self._parameters, self._last = parameters, last
        self._buffer = torch.arange(start, start + size)

    def buffer(self) -> Tensor:
        return self._buffer

    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def gradients(self) -> list[Tensor]:
        parts = self._buffer.split([parameter.numel() for parameter in self._parameters])
        return [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]

    def is_last(self) -> bool:
        return self._last


class Negating:
    """Notes what it gets and returns its negative, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.received: list[list[float]] = []

    def all_reduce(self, gradient_P: Tensor, group: Any) -> None:
        self.received.append(gradient_P.tolist())
        if self.error is not None:
            raise self.error
        gradient_P.neg_()


class Signed:
    count = 0

    def sign(self) -> None:
        self.count += 1


class Alone:
    """A group of this server, and perhaps another one with a problem of its own."""

    rank, size = 0, 1

    def __init__(self, problem: str | None = None, *, stopping: bool = False) -> None:
        self.flags, self.problem = [problem is not None, stopping], problem
        self.calls = 0

    def maximum(self, mine: Tensor) -> None:
        self.calls += 1
        mine.copy_(torch.maximum(mine, torch.tensor(self.flags, dtype=mine.dtype)))

    def gather_objects(self, mine: str | None) -> list[str | None]:
        return [mine, self.problem]


def exchange_of(
    module: nn.Module, reducer: Any, group: Any = None, back: Any = None
) -> tuple[BucketExchange, Signed]:
    group = Alone() if group is None else group
    attendance: Any = Signed()
    exchange = BucketExchange(
        reducer,
        FlatParameters(module),
        group=group,
        back=back,
        attendance=attendance,
        device=torch.device("cpu"),
    )
    return exchange, attendance


def give(exchange: BucketExchange, *buckets: Any) -> list[Any]:
    return [exchange.hook(None, bucket) for bucket in buckets]


def test_buckets_of_any_order_are_reduced_together_in_flat_order() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    first, bias, second, last_bias = module.parameters()
    reducer = Negating()
    exchange, attendance = exchange_of(module, reducer)

    late = Bucket([last_bias, second], last=False, start=10.0)
    early = Bucket([bias, first], last=True, start=20.0)
    (waiting,) = give(exchange, late)
    assert not waiting.done()
    assert reducer.received == []
    (done,) = give(exchange, early)
    exchange.finish()
    assert reducer.received == [[21.0, 22.0, 20.0, 11.0, 10.0]]
    assert waiting.value().tolist() == late.buffer().tolist() == [-10.0, -11.0]
    assert done.value().tolist() == [-20.0, -21.0, -22.0]
    assert (exchange.calls, attendance.count) == (2, 1)


def test_another_layout_of_buckets_gives_the_same_reduction() -> None:
    module = nn.Linear(2, 1)
    weight, bias = module.parameters()
    reducer = Negating()
    exchange, _ = exchange_of(module, reducer)
    give(exchange, Bucket([weight, bias], last=True, start=1.0))
    exchange.finish()
    give(
        exchange,
        Bucket([bias], last=False, start=3.0),
        Bucket([weight], last=True, start=1.0),
    )
    exchange.finish()
    assert reducer.received == [[1.0, 2.0, 3.0]] * 2


def test_an_error_of_the_reducer_is_raised_by_finish_once_and_leaves_no_bucket_waiting() -> None:
    module = nn.Linear(2, 1)
    exchange, _ = exchange_of(module, Negating(SkipStep()))
    (future,) = give(exchange, Bucket(list(module.parameters()), last=True, start=0.0))
    with pytest.raises(SkipStep):
        exchange.finish()
    assert future.done()
    exchange.finish()


class Caps(nn.Module):
    """6 MB of parameters, small ones between large ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(*(nn.Linear(500, 500) for _ in range(6)))

    def forward(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.body(batch).square().sum()
        return loss


def test_the_size_of_buckets_changes_no_bit(one_server: ServerGroup) -> None:
    gradients, calls = [], []
    for cap in (1, 25, 1000):
        module = Caps()
        reducer = OptINCReducer.from_zoo(bits=8, servers=2)
        reducer.connect(1)
        layout = FlatParameters(module, alignment=reducer.alignment)
        reducer.lay_out([parameter.shape for parameter in layout.parameters])
        attendance: Any = Signed()
        exchange = BucketExchange(
            reducer, layout, group=one_server, attendance=attendance, device=torch.device("cpu")
        )
        ddp = DistributedDataParallel(module, bucket_cap_mb=cap)
        ddp.register_comm_hook(None, exchange.hook)
        for step in range(2):
            ddp.zero_grad()
            exchange.begin()
            ddp(torch.randn(4, 500, generator=torch.Generator().manual_seed(step))).backward()
            exchange.finish()
        gradients.append([parameter.grad for parameter in module.parameters()])
        calls.append(exchange.calls)
    assert len(set(calls)) == 2  # 25 MB and 1000 MB hold all parameters
    for first, *others in zip(*gradients, strict=True):
        assert all(torch.equal(first, other) for other in others)


class Doubling(PartwiseReducer):
    """Notes parts and their ends, and doubles each; may fail at one, sent or received."""

    def __init__(
        self,
        *,
        fails_at: int | None = None,
        loses: int | None = None,
        refuses: Exception | None = None,
    ) -> None:
        super().__init__(servers=1)
        self.log: list[Any] = []
        self.fails_at, self.loses, self.refuses = fails_at, loses, refuses
        self.together = False

    @property
    def by_parts(self) -> bool:
        return not self.together

    def describe_exchange(self, servers: int) -> str:
        return "floats"

    def table_of(self, places: Sequence[Place]) -> BlockTable:
        return BlockTable(places, block_size=4)

    def _reduce_rows(self, rows_NG: Tensor, out_G: Tensor, *, first: int) -> None:
        raise AssertionError("this server is a real one")

    def _end_rows(self) -> None:
        raise AssertionError("this server is a real one")

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        raise AssertionError("this server is a real one")

    def _send_part(self, part: Part, group: Any) -> Receive:
        number = len(self.log)
        if self.fails_at == number:
            raise RuntimeError("gloo: connection closed by peer")
        places = [(place.start, place.position, place.size) for place in part.table.places]
        self.log.append((part.buffer_V.tolist(), places))

        def receive(group: Any) -> None:
            if self.loses == number:
                raise RuntimeError("gloo: connection closed by peer")
            part.buffer_V.mul_(2.0)

        return receive

    def _end(self, parts: Sequence[Part], group: Any) -> None:
        self.log.append(len(parts))
        if self.refuses is not None:
            raise self.refuses


class Metered(Alone):
    def __init__(self, problem: str | None = None) -> None:
        super().__init__(problem)
        self.meter = Meter()


def test_buckets_are_reduced_one_by_one_as_they_come() -> None:
    module, late, early = two_layers()
    reducer = Doubling()
    exchange, attendance = exchange_of(module, reducer, Metered())
    exchange.begin()
    (first,) = give(exchange, late)
    # Nothing else has arrived: a reduction that waited for it would not end.
    assert first.wait().tolist() == [20.0, 22.0]
    assert reducer.log == [([10.0, 11.0], [(0, 4, 1), (1, 3, 1)])]
    give(exchange, early)
    exchange.finish()
    assert early.buffer().tolist() == [40.0, 42.0, 44.0]
    assert reducer.log[1:] == [([20.0, 21.0, 22.0], [(0, 2, 1), (1, 0, 2)]), 2]
    assert (exchange.calls, attendance.count) == (2, 1)


def test_an_observed_reduction_sees_the_whole_gradient() -> None:
    module, late, early = two_layers()
    reducer = Doubling()
    reducer.together = True
    exchange, _ = exchange_of(module, reducer, Metered())
    exchange.begin()
    give(exchange, late, early)
    exchange.finish()
    assert reducer.log == [([21.0, 22.0, 20.0, 11.0, 10.0], [(0, 0, 5)]), 1]
    assert late.buffer().tolist() == [20.0, 22.0]


class Held(Doubling):
    """Gives nothing back before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = Event()
        self.sent: Queue[list[float]] = Queue()

    def _send_part(self, part: Part, group: Any) -> Receive:
        receive = super()._send_part(part, group)
        self.sent.put(part.buffer_V.tolist())

        def wait(group: Any) -> None:
            assert self.may.wait(20)
            receive(group)

        return wait


def test_a_bucket_is_sent_while_the_one_before_comes_back_and_a_third_waits() -> None:
    module = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(UNDER_WAY + 1)))
    parameters = list(module.parameters())
    buckets = [
        Bucket([parameter], last=parameter is parameters[0], start=float(number))
        for number, parameter in reversed(list(enumerate(parameters)))
    ]
    reducer = Held()
    exchange, _ = exchange_of(module, reducer, Metered(), Metered())
    futures = give(exchange, *buckets)
    assert [reducer.sent.get(timeout=20) for _ in range(UNDER_WAY)] == [[2.0], [1.0]]
    with pytest.raises(Empty):
        reducer.sent.get(timeout=0.05)
    assert not any(future.done() for future in futures)
    reducer.may.set()
    exchange.finish()
    assert [future.value().tolist() for future in futures] == [[4.0], [2.0], [0.0]]
    assert reducer.log[-1] == UNDER_WAY + 1


@pytest.mark.parametrize("back", [None, Metered()])
def test_after_an_error_the_pass_does_not_end_and_no_bucket_waits(back: Any) -> None:
    for reducer, error, reduced in (
        (Doubling(fails_at=0), RuntimeError, 0),
        (Doubling(fails_at=1), RuntimeError, 1),
        # The other servers go on sending, and so does this one.
        (Doubling(loses=0), RuntimeError, 2),
        (Doubling(loses=1), RuntimeError, 2),
        (Doubling(refuses=SkipStep()), SkipStep, 3),
    ):
        module, late, early = two_layers()
        exchange, _ = exchange_of(module, reducer, Metered(), back)
        exchange.begin()
        futures = give(exchange, late, early)
        with pytest.raises(error):
            exchange.finish()
        assert all(future.done() for future in futures), "autograd waits for them"
        assert len(reducer.log) == reduced
        reducer.fails_at = reducer.loses = reducer.refuses = None
        exchange.begin()
        give(exchange, late, early)
        exchange.finish()
        assert reducer.log[-1] == 2, "parts of a failed reduction do not count"


def test_gradients_in_another_order_of_memory_travel_in_flat_order() -> None:
    module = nn.Conv2d(2, 3, 2, bias=False).to(memory_format=torch.channels_last)
    values = torch.arange(24.0).view(3, 2, 2, 2)
    given = Bucket([module.weight], last=True, start=0.0)
    # DDP's buffers hold such gradients in the order of memory, whatever its own views say.
    channels_last = given.buffer().as_strided(module.weight.shape, module.weight.stride())
    channels_last.copy_(values)
    assert given.buffer().tolist() != values.flatten().tolist()
    reducer = Doubling()
    exchange, _ = exchange_of(module, reducer, Metered())
    exchange.begin()
    give(exchange, given)
    exchange.finish()
    assert reducer.log[0] == (values.flatten().tolist(), [(0, 0, 24)])
    assert torch.equal(channels_last, 2 * values)


def two_layers() -> tuple[nn.Sequential, Bucket, Bucket]:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    first, bias, second, last_bias = module.parameters()
    late = Bucket([last_bias, second], last=False, start=10.0)
    return module, late, Bucket([bias, first], last=True, start=20.0)


@pytest.mark.parametrize("arrived", [0, 1])
def test_a_bucket_that_does_not_come_is_an_error_that_names_what_the_loss_leaves_out(
    arrived: int,
) -> None:
    module, late, _ = two_layers()
    reducer = Negating()
    exchange, _ = exchange_of(module, reducer)
    exchange.begin()
    give(exchange, *[late][:arrived])
    loss = module[1](torch.ones(1)).sum()
    with pytest.raises(ConfigurationError) as caught:
        exchange.finish(loss)
    assert str(caught.value).startswith(
        "server 0: this backward pass gave no gradient to parameters '0.weight', '0.bias'; set "
        "strategy.find_unused_parameters=true"
    )
    assert reducer.received == []


def test_a_pass_after_one_that_failed_begins_anew() -> None:
    module, late, early = two_layers()
    reducer = Negating()
    exchange, _ = exchange_of(module, reducer)
    exchange.begin()
    give(exchange, late)
    with pytest.raises(ConfigurationError):
        exchange.finish()
    exchange.begin()
    give(exchange, late, early)
    exchange.finish()
    assert len(reducer.received) == 1


def test_nothing_is_reduced_where_another_server_has_a_problem() -> None:
    module, late, early = two_layers()
    reducer = Negating()
    exchange, _ = exchange_of(module, reducer, Alone("out of paper"))
    exchange.begin()
    futures = give(exchange, late, early)
    with pytest.raises(ConfigurationError, match="server 1: out of paper"):
        exchange.finish()
    assert all(future.done() for future in futures), "autograd waits for them"
    assert reducer.received == []


def test_a_problem_of_this_server_is_told_before_the_reduction_or_after_the_pass() -> None:
    module, late, early = two_layers()
    for buckets in ([late, early], [late]):
        reducer, group = Negating(), Alone()
        exchange, _ = exchange_of(module, reducer, group)
        exchange.begin("out of paper")
        give(exchange, *buckets)
        with pytest.raises(ConfigurationError, match="server 0: out of paper"):
            exchange.finish()
        assert (group.calls, reducer.received) == (1, [])


def test_servers_hear_that_any_of_them_is_stopping() -> None:
    module, late, early = two_layers()
    for stopping in (False, True):
        exchange, _ = exchange_of(module, Negating(), Alone(stopping=stopping))
        give(exchange, late, early)
        exchange.finish()
        assert exchange.all_stop == stopping


def test_a_sparse_gradient_is_refused_by_name() -> None:
    module = nn.Linear(2, 1)
    exchange, _ = exchange_of(module, Negating())
    bucket = Bucket([module.weight], last=True, start=0.0)
    bucket._buffer = torch.eye(2).to_sparse()
    with pytest.raises(ConfigurationError, match="parameter 'weight' has a sparse gradient"):
        exchange.hook(None, bucket)  # type: ignore[arg-type]
