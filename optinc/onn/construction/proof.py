"""Proof that a restoring ONN receives all inputs right, without sending each of them.

After a stage every neuron is exactly 0 or 1 in float32, whatever the order in which a matrix
product adds, so a network of K inputs falls apart at its stages:

1. A neuron depends on few digits, and, where a carry passes, on its value alone. A :class:`Cut`
   names the integers that the neurons of a stage must be functions of, and of which integers of the
   stage before these are functions. For all their values the neurons are computed in interval
   arithmetic, which bounds the rounding of float32; it is checked that they are 0 or 1, and equal
   where the integer is.
2. Every symbol is computed for all values of the integers that reach it, and compared with that of
   eq. (3). Its margin is that of the worst value, rounding included.

Where the whole sum goes back (``downlink=decimal``) its symbols are all digits, the lowest too.

That the integers are those of the average is the addition of numbers digit by digit: with half of N
added to S_K, X_K = S_K and X_k = S_k + floor(X_(k+1) / 4), the total is 4^(K-1) X_1 + sum over
k > 1 of 4^(K-k) (X_k mod 4); and S_k = 4 floor(S_k / 4) + S_k mod 4.
"""

# Shape suffixes: P combinations of values, m and n neurons.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from optinc.onn.construction.division import half_divisor, has_ties
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

BASE = 4
"""Base of the digits: one PAM4 symbol each."""

UNIT = 2.0**-24
"""Largest relative rounding error of one float32 operation."""

BATCH = 1 << 16
"""Combinations computed at once."""

Values = Mapping[str, Tensor]
"""Integers by name, int64 [P]."""


class ProofError(ValueError):
    """A network that does not do what the proof says."""


@dataclass(frozen=True)
class Integer:
    """An integer that neurons of a stage are functions of.

    Attributes:
        sources: Names of the integers of the stage before that it is a function of.
        function: That function.
        size: It takes the values 0 to size - 1.
    """

    sources: tuple[str, ...]
    function: Callable[[Values], Tensor]
    size: int


@dataclass(frozen=True)
class Cut:
    """A layer of which all neurons are 0 or 1.

    Attributes:
        layer: Number of layers up to here.
        integers: What its neurons are functions of, by name.
    """

    layer: int
    integers: dict[str, Integer]


@dataclass
class _Held:
    """Neurons that are functions of one integer.

    Attributes:
        neurons: Their numbers, int64 [n].
        values: Float64 [size, n]; NaN for values that the integer does not take.
        domain: The values that it takes, int64.
    """

    neurons: Tensor
    values: Tensor
    domain: Tensor


def prove(network: OpticalNetwork, scenario: Scenario, *, lookahead: bool) -> Evaluation:
    """Prove that a network of the restoring construction receives all inputs right.

    Args:
        network: The network; it is not looked at how it was built.
        scenario: 4 servers, one symbol an ONN input, no cascade, at least 3 inputs.
        lookahead: Whether its carries are found by lookahead, else from digit to digit.

    Returns:
        The evaluation of all inputs, none of them wrong.

    Raises:
        ProofError: If a neuron or symbol is not what it must be; says which.
        ValueError: If the scenario is another one.
    """
    if not provable(scenario):
        raise ValueError(f"the proof is for 4 servers and one symbol an input, not for {scenario}")
    find = _Lookahead(scenario) if lookahead else _Ripple(scenario)
    held = {
        f"S{k + 1}": _Held(
            torch.tensor([k]),
            torch.arange(radix).double().unsqueeze(1) * (network.input_scale / scenario.servers)
            + network.input_offset,
            torch.arange(radix),
        )
        for k, radix in enumerate(scenario.radices)
    }
    layer = 0
    for cut in find.cuts():
        held = _pass(network, held, start=layer, cut=cut)
        layer = cut.layer
    margin = min(
        _margin(network, held, start=layer, symbol=i, expected=find.symbol)
        for i in range(1, scenario.received_symbols + 1)
    )
    return Evaluation(
        combinations=scenario.combinations,
        evaluated_inputs=scenario.combinations,
        wrong_inputs=0,
        error_values={},
        smallest_margin=margin,
    )


def provable(scenario: Scenario) -> bool:
    """Whether :func:`prove` knows the integers of a scenario."""
    return (scenario.servers, scenario.group, scenario.level) == (4, 1, 1) and (
        scenario.onn_inputs >= 3
    )


class _Ripple:
    """The integers of ``carries=ripple``: one digit a stage, from the last to the first."""

    def __init__(self, scenario: Scenario) -> None:
        self.inputs, self.ties = scenario.onn_inputs, has_ties(scenario)
        self.half = half_divisor(scenario)
        self.radix = scenario.radices[0]
        self.lowest = scenario.received_symbols - 1

    def cuts(self) -> list[Cut]:
        """Return the stages."""
        return [Cut(3 * stage, self._integers(stage)) for stage in range(1, self.inputs + 1)]

    def _integers(self, stage: int) -> dict[str, Integer]:
        last, now = self.inputs, self.inputs + 1 - stage
        found = {f"S{k}": _same(f"S{k}", self.radix) for k in range(1, now)}
        most = self.radix - 1 + (self.half if now == last else (self.radix + self.half) // BASE)
        sources = (f"S{now}",) if now == last else (f"S{now}", f"X{now + 1}")
        found[f"X{now}"] = Integer(sources, self._digit(now), most + 1)
        for k in range(now + 1, self.lowest + 1):
            name = f"D{k}"
            found[name] = (
                _same(name, BASE) if k > now + 1 else Integer((f"X{k}",), _modulo(f"X{k}"), BASE)
            )
        if self.ties and stage == 2:
            found["N"] = Integer((f"X{last}",), lambda v: (v[f"X{last}"] % BASE != 0).long(), 2)
        elif self.ties and stage == 3:
            found["tie"] = Integer(("N", f"X{last - 1}"), self._tie, 2)
        elif self.ties and stage > 3:
            found["tie"] = _same("tie", 2)
        return found

    def _digit(self, k: int) -> Callable[[Values], Tensor]:
        if k == self.inputs:
            return lambda v: v[f"S{k}"] + self.half
        return lambda v: v[f"S{k}"] + v[f"X{k + 1}"] // BASE

    def _tie(self, values: Values) -> Tensor:
        return ((values["N"] == 0) & (values[f"X{self.inputs - 1}"] % 2 == 1)).long()

    def symbol(self, i: int, values: Values) -> Tensor:
        """Return symbol i of eq. (3), or of the whole sum, whose last is the lowest digit."""
        if i == 1:
            return values["X1"] // BASE
        digit = values["X1"] % BASE if i == 2 else values[f"D{i - 1}"]
        return digit - values["tie"] if self.ties and i == self.inputs else digit


class _Lookahead:
    """The integers of ``carries=lookahead``: the sums of digits without the carries of 0 or 1."""

    def __init__(self, scenario: Scenario) -> None:
        self.inputs, self.ties = scenario.onn_inputs, has_ties(scenario)
        self.half = half_divisor(scenario)
        self.radix = scenario.radices[0]
        self.whole = scenario.returns_sum

    def cuts(self) -> list[Cut]:
        """Return the two stages before carries are looked for."""
        last = self.inputs
        read = {f"S{k}": _same(f"S{k}", self.radix) for k in range(1, last + 1)}
        sums = {
            f"T{k}": Integer((f"S{k}", f"S{k + 1}"), self._without_carry(k), 2 * BASE - 1)
            for k in range(1, last)
        }
        top = Integer(("S1",), lambda v: v["S1"] // BASE, (self.radix - 1) // BASE + 1)
        sums["top"] = top
        if self.whole:
            sums["D"] = Integer((f"S{last}",), _modulo(f"S{last}"), BASE)
        if self.ties:
            sums["N"] = Integer((f"S{last}",), lambda v: (self._sum(last, v) % BASE != 0).long(), 2)
        return [Cut(3, read), Cut(6, sums)]

    def _without_carry(self, k: int) -> Callable[[Values], Tensor]:
        return lambda v: v[f"S{k}"] % BASE + self._sum(k + 1, v) // BASE

    def _sum(self, k: int, values: Values) -> Tensor:
        return values[f"S{k}"] + (self.half if k == self.inputs else 0)

    def symbol(self, i: int, values: Values) -> Tensor:
        """Return symbol i of eq. (3): a digit of the average is a digit of the sums, one lower."""
        if i > self.inputs:
            return values["D"]
        carry = torch.zeros((), dtype=torch.int64)
        for k in range(self.inputs - 1, max(i - 1, 1) - 1, -1):
            digit = values[f"T{k}"] + carry
            carry = digit // BASE
        if i == 1:
            return values["top"] + carry
        symbol = digit % BASE
        if self.ties and i == self.inputs:
            return symbol - ((values["N"] == 0) & (symbol % 2 == 1)).long()
        return symbol


def _same(name: str, size: int) -> Integer:
    return Integer((name,), lambda values: values[name], size)


def _modulo(name: str) -> Callable[[Values], Tensor]:
    return lambda values: values[name] % BASE


def _pass(
    network: OpticalNetwork,
    held: Mapping[str, _Held],
    *,
    start: int,
    cut: Cut,
) -> dict[str, _Held]:
    """Return the neurons of a cut, from those of the cut before.

    Raises:
        ProofError: If a neuron is not 0 or 1, or not a function of one of the integers.
    """
    sources = _sources(network, held, start=start, stop=cut.layer)
    found: dict[str, _Held] = {}
    missing = set(range(len(sources)))
    smallest_first = sorted(cut.integers.items(), key=lambda item: _count(item[1].sources, held))
    for name, integer in smallest_first:
        neurons = torch.tensor(
            sorted(j for j in missing if sources[j] <= set(integer.sources)), dtype=torch.int64
        )
        count = _count(integer.sources, held)
        values = _combinations(torch.arange(count), integer.sources, held)
        played, high = _play(network, held, values, neurons, start=start, stop=cut.layer)
        if not torch.equal(played, high) or not bool(((played == 0) | (played == 1)).all()):
            raise ProofError(f"a neuron of layer {cut.layer} is neither 0 nor 1")
        index = integer.function(values)
        table = torch.full((integer.size, len(neurons)), torch.nan, dtype=torch.float64)
        table[index] = played
        same = (table[index] == played).all(0)
        found[name] = _Held(neurons[same], table[:, same], torch.unique(index))
        missing -= set(neurons[same].tolist())
    if missing:
        raise ProofError(f"neuron {min(missing)} of layer {cut.layer} depends on something else")
    return found


def _margin(
    network: OpticalNetwork,
    held: Mapping[str, _Held],
    *,
    start: int,
    symbol: int,
    expected: Callable[[int, Values], Tensor],
) -> float:
    """Return the margin of a symbol over all values of what reaches it, in PAM4 amplitudes.

    Raises:
        ProofError: If the symbol is received wrong.
    """
    names = sorted(_sources(network, held, start=start, stop=len(network.linears))[symbol - 1])
    neuron = torch.tensor([symbol - 1])
    worst = 0.0
    for index in torch.split(torch.arange(_count(names, held)), BATCH):
        values = _combinations(index, names, held)
        low, high = _play(network, held, values, neuron, start=start, stop=len(network.linears))
        right = expected(symbol, values).double().unsqueeze(1)
        error = torch.maximum(high - right, right - low)
        worst = max(worst, float(error.max()))
    if not worst < 0.5:
        raise ProofError(f"symbol {symbol} is off by up to {worst:.3g} amplitudes")
    return 0.5 - worst


def _sources(
    network: OpticalNetwork, held: Mapping[str, _Held], *, start: int, stop: int
) -> list[set[str]]:
    """Return, for every neuron of layer ``stop``, the integers on which it depends."""
    reads = torch.eye(network.linears[start].in_features)
    for linear in network.linears[start:stop]:
        reads = ((linear.weight != 0).float() @ reads > 0).float()
    return [{name for name, each in held.items() if bool(row[each.neurons].any())} for row in reads]


def _count(names: Sequence[str], held: Mapping[str, _Held]) -> int:
    return prod(len(held[name].domain) for name in names)


def _combinations(
    index_P: Tensor, names: Sequence[str], held: Mapping[str, _Held]
) -> dict[str, Tensor]:
    """Return combinations of the values of integers, by their number."""
    values = {}
    for name in names:
        domain = held[name].domain
        values[name] = domain[index_P % len(domain)]
        index_P = index_P // len(domain)
    return values


@torch.no_grad()
def _play(
    network: OpticalNetwork,
    held: Mapping[str, _Held],
    values: Values,
    wanted_m: Tensor,
    *,
    start: int,
    stop: int,
) -> tuple[Tensor, Tensor]:
    """Bound what float32 computes for values of integers, the neurons of other ones being dark.

    Only neurons that reach the wanted ones are computed.

    A sum of n products, added in any order, fused or not, is off by at most n u / (1 - n u) times
    the sum of their absolute values (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).

    Returns:
        Lower and upper bounds of the wanted neurons of layer ``stop``, float64 [P, m].
    """
    layers = []
    reaching = wanted_m
    for linear in reversed(network.linears[start:stop]):
        rows = linear.weight[reaching]
        bias = linear.bias[reaching].double()
        reaching = (rows != 0).any(0).nonzero().squeeze(1)
        layers.append((rows[:, reaching].double(), bias))
    combinations = len(next(iter(values.values())))
    low = torch.zeros(combinations, network.linears[start].in_features, dtype=torch.float64)
    for name, each in held.items():
        if name in values:
            low[:, each.neurons] = each.values[values[name]]
    low = high = low[:, reaching]
    for i, (weight, bias) in enumerate(reversed(layers), start=start):
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        terms = (weight != 0).sum(1) + 2
        # Twice the bound: this program itself rounds to 2^-53.
        relative = 2 * terms * UNIT / (1 - terms * UNIT)
        largest = torch.maximum(low.abs(), high.abs()) @ weight.abs().T
        # Where all inputs are 0, the output is the bias.
        error = torch.where(largest > 0, relative * (largest + bias.abs()), 0.0)
        below = low @ positive.T + high @ negative.T + bias - error
        above = high @ positive.T + low @ negative.T + bias + error
        ends = i == len(network.linears) - 1
        low, high = (below, above) if ends else (below.relu(), above.relu())
    return low, high
