"""Carry lookahead: the symbols of Q(total / N^l) in stages whose number grows with log K.

The construction of :mod:`.division` adds one digit a stage, so that K digits take K stages. Here
all digits are read at once, as in a carry-lookahead adder:

1. The sums S_k are written as base q_k + r_k, and T_k = r_k + q_(k+1): what digit k gets from below
   is then a carry of 0 or 1, once no T_k exceeds 2 base - 2. Larger ones are split again.
2. Digit k passes a carry on (V_k = 1, T_k = base - 1), makes one (V_k = 2) or stops it (V_k = 0).
3. With the known carry u into the lowest of i + 1 digits, the carry out of the highest is
   [x >= 2^(i+1)] for x = 2^i V_highest + ... + V_lowest + u: one step of a sum. ``reach`` digits
   are added so; the digits above are joined to groups of ``reach``, for which the V are found alike
   and which are the digits of the next stage.

A digit that gets a carry u is the one that it was, r, or the next one. Its functions are weighted
sums of the steps [r >= t], u, and [r >= t and u], which is a step of 2^(i+1) [r >= t] + x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from optinc.onn.construction.division import (
    add_value,
    digit_base,
    digit_bits,
    dropped_bits,
    lowest_bit,
    may_overflow,
)
from optinc.onn.construction.stages import Function, Job, Stages, shifted_functions
from optinc.onn.construction.values import Value
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

Group = tuple[int, ...]
"""Numbers of adjacent digits whose carries were joined, from the lowest digit to the highest. V of
digit k says what the digits of its group up to k do with a carry."""


@dataclass(frozen=True)
class Carry:
    """A carry of 0 or 1: the step [x >= threshold] of a sum, which is at most 2 threshold - 1."""

    total: Value
    threshold: int

    def job(self, name: str, *, where: Value | None = None) -> Job:
        """Return the job that finds the carry, or whether it is 1 while the bit ``where`` is 1."""
        if where is None:
            return Job(self.total, {name: _step(self.threshold)})
        both = where.times(self.threshold) + self.total
        return Job(both, {name: _step(2 * self.threshold)})


class Lookahead:
    """Runs the stages of one scenario, as :class:`~optinc.onn.construction.stages.Digits` does.

    Digit 0 is what exceeds the first sum. Held are ``S<k>``, sums of digit k; ``h<k>,<t>``, the
    steps [digit k >= t] before it gets its carry; ``V<k>``; and ``u``, the highest carry known.

    Args:
        scenario: The switch to be built, whose division is a shift.
        stages: Hold the sums S1 to SK, half a divisor already added where Q rounds to nearest.
        reach: Digits, or groups of digits, whose carries are added in one stage, at least 1.
    """

    def __init__(self, scenario: Scenario, stages: Stages, *, reach: int) -> None:
        self.scenario, self.stages, self.reach = scenario, stages, reach
        self.tops = {k: digit_base(scenario, k) - 1 for k in range(1, scenario.onn_inputs + 1)}
        self.parity_known = False

    def run(self) -> None:
        """Leave the symbols as ``d1`` to ``dM``, and ``tie``, ``rest`` and ``over`` if needed."""
        lowest = self._normalise()
        if lowest:
            self._open(lowest)
            groups: list[Group] = [(k,) for k in range(lowest - 1, 0, -1)]
            waiting = list(range(lowest - 1, -1, -1))
            while any(self._functions(k) for k in waiting):
                groups, waiting = self._resolve(groups, waiting)
            for name in [n for n in self.values if n[0] in "uVhS"]:
                self.values.pop(name)
        if self.parity_known:
            self._run([])
        if "over" in self.values:
            # Of a code beyond the largest all symbols are 0 here, those of the first digit too.
            for i in range(1, self.scenario.group_sizes[0] + 1):
                add_value(self.stages, f"d{i}", self.values["over"].times(pam4.AMPLITUDES - 1))

    @property
    def values(self) -> dict[str, Value]:
        """The held values."""
        return self.stages.values

    def _normalise(self) -> int:
        """Pass on all that exceeds a carry of 1; return the lowest digit left, 0 for none."""
        lowest = self.scenario.onn_inputs
        while lowest and not self._normal(lowest):
            jobs, merged = [], lowest == 1 and "S0" not in self.values
            for k in range(lowest, 0, -1):
                base = self.tops[k] + 1
                functions: dict[str, Function] = {f"T{k}": _remainder(base)}
                if k == lowest:
                    functions = self._functions(k, _remainder(base))
                if merged:
                    functions = self._sum_up(functions, self._functions(0, _quotient(base)))
                elif self.values[f"S{k}"].largest >= base:
                    functions[f"to {k - 1}"] = _quotient(base)
                jobs.append(Job(self.values.pop(f"S{k}"), functions))
            self._run(jobs)
            for k in range(lowest):
                for name in (f"T{k}", f"to {k}"):
                    if name in self.values:
                        add_value(self.stages, f"S{k}", self.values.pop(name))
            lowest -= 1
        if not lowest and "S0" in self.values:
            self._run([Job(self.values.pop("S0"), self._functions(0))])
        return lowest

    def _normal(self, lowest: int) -> bool:
        """Whether every digit, 1 to ``lowest``, passes a carry of at most 1 on."""
        return all(
            self.values[f"S{k}"].largest + (k < lowest) <= 2 * self.tops[k] + 1
            for k in range(1, lowest + 1)
        )

    def _open(self, lowest: int) -> None:
        """Find what all digits do with a carry; the lowest one gets none and is done."""
        jobs, self.tops[0] = [], 0
        for k in range(lowest, -1, -1):
            if f"S{k}" not in self.values:
                continue
            value = self.values.pop(f"S{k}")
            base = self.tops[k] + 1 if k else value.largest + 1
            self.tops[k] = base - 1
            functions = {f"h{k},{t}": _step(t, base=base) for t in range(1, base)}
            if k == lowest:
                functions = self._functions(k, _remainder(base)) | {"u": _step(base)}
            elif k:
                functions[f"V{k}"] = _passes(base)
            jobs.append(Job(value, functions))
        self._run(jobs)

    def _resolve(self, groups: list[Group], waiting: list[int]) -> tuple[list[Group], list[int]]:
        """Find the carries of the lowest groups, and join those above.

        Args:
            groups: Digits of unknown carries, from the lowest to the highest.
            waiting: Digits that have not got their carry yet, from the lowest to the highest.

        Returns:
            The groups and digits that are left.
        """
        near, far = groups[: self.reach], groups[self.reach :]
        carries = {groups[0][0] if groups else 0: Carry(self.values["u"], 1)}
        for i, group in enumerate(near):
            for k in group:
                below = [*near[:i], (k,)]
                carries[k - 1] = Carry(self._weigh(below) + self.values["u"], 2 ** (i + 1))
        jobs: list[Job] = []
        joined = [self._join(far[i : i + self.reach], jobs) for i in range(0, len(far), self.reach)]
        if far:
            jobs.append(carries[near[-1][-1] - 1].job("new u"))
        ready = {k: self._functions(k) for k in waiting if k in carries}
        for k, functions in ready.items():
            jobs += self._jobs_of_digit(functions, k, carries[k])
        found = [name for job in jobs for name in job.functions]
        renewed = {name.removeprefix("new ") for name in found if name.startswith("new ")}
        for name in renewed | {"u"} | {f"V{k}" for group in near for k in group}:
            self.values.pop(name)
        left = [k for k in waiting if k not in ready]
        self._run(jobs)
        for name in [name for name in self.values if name.startswith("new ")]:
            self.values[name.removeprefix("new ")] = self.values.pop(name)
        for k, functions in ready.items():
            self._finish_digit(functions, k)
        return joined, left

    def _weigh(self, groups: Sequence[Group]) -> Value:
        """Return the sum of V of groups, the lowest first, each twice the one below."""
        total = self.values[f"V{groups[0][-1]}"]
        for i, group in enumerate(groups[1:], start=1):
            total = total + self.values[f"V{group[-1]}"].times(2**i)
        return total

    def _join(self, groups: Sequence[Group], jobs: list[Job]) -> Group:
        """Make one group of several, and add the jobs that find V of its digits."""
        for i, group in enumerate(groups[1:], start=1):
            for k in group:
                total = self._weigh([*groups[:i], (k,)])
                jobs.append(Job(total, {f"new V{k}": _passes(2 ** (i + 1))}))
        return tuple(k for group in groups for k in group)

    def _jobs_of_digit(self, functions: dict[str, Function], k: int, carry: Carry) -> Iterator[Job]:
        """Yield the jobs of a digit that gets its carry; drop its steps that are not needed."""
        factors = [self._factors(f, k) for f in functions.values()]
        for t in range(self.tops[k] + 1):
            bit = self.values.get(f"h{k},{t}")
            if any(carried[t] for _, carried in factors):
                yield carry.job(f"c{k},{t}", where=bit)
            if bit is not None and not any(plain[t] for plain, _ in factors):
                self.values.pop(f"h{k},{t}")

    def _finish_digit(self, functions: dict[str, Function], k: int) -> None:
        """Turn the steps of a digit, and those where it got a carry, into its functions."""
        bits = {n: self.values.pop(n) for n in list(self.values) if n[1:].startswith(f"{k},")}
        for name, f in functions.items():
            plain, carried = self._factors(f, k)
            total: Value | None = None
            for letter, factors in (("h", plain), ("c", carried)):
                for t, factor in enumerate(factors):
                    if factor and (letter, t) != ("h", 0):
                        bit = bits[f"{letter}{k},{t}"]
                        part = Value(bit.weights * factor, bit.offset * factor, 0)
                        total = part if total is None else total + part
            if total is not None:
                largest = max(f(x) for x in range(self.tops[k] + (k == 0) + 1))
                value = replace(total.shifted(f(0)), largest=largest)
                add_value(self.stages, "no tie" if name == "even" else name, value)
        self.parity_known |= "even" in functions

    def _factors(self, function: Function, k: int) -> tuple[list[int], list[int]]:
        """Return the factors of [r >= t], and of [r >= t and u], in f(r + u) of digit k.

        Lists over t = 0 to the largest r. Digits but the highest wrap.
        """
        top = self.tops[k]
        before = [function(r) for r in range(top + 1)]
        after = [function((r + 1) % (top + 1) if k else r + 1) for r in range(top + 1)]
        gains = [b - a for a, b in zip(before, after, strict=True)]
        if not k and top and top == self._most() and not may_overflow(self.scenario):
            gains[top] = gains[top - 1]  # never needed: a code is no larger
        plain = [0, *(b - a for a, b in pairwise(before))]
        return plain, [gains[0], *(b - a for a, b in pairwise(gains))]

    def _most(self) -> int:
        """Return the largest value of digit 0 in a code."""
        bits = dropped_bits(self.scenario) + 2 * self.scenario.received_symbols
        return (1 << (bits - lowest_bit(self.scenario, 1) - digit_bits(self.scenario, 1))) - 1

    def _functions(self, k: int, digit: Function = lambda x: x) -> dict[str, Function]:
        """Return what is needed of digit k, in terms of what ``digit`` takes it from."""
        low = lowest_bit(self.scenario, max(k, 1)) + (0 if k else digit_bits(self.scenario, 1))
        width = digit_bits(self.scenario, k) if k else None
        functions = shifted_functions(self.scenario, digit, low=low, width=width, free=True)
        if not k and may_overflow(self.scenario):
            most = self._most()
            functions["over"] = lambda x: int(digit(x) > most)
        return functions

    @staticmethod
    def _sum_up(first: dict[str, Function], second: dict[str, Function]) -> dict[str, Function]:
        """Add the functions of two digits that one value holds."""

        def total(name: str) -> Function:
            parts = [found[name] for found in (first, second) if name in found]
            return lambda x: sum(part(x) for part in parts)

        return {name: total(name) for name in {**first, **second}}

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run a stage; once the parity of the code is known, look for ties beside it."""
        jobs = list(jobs)
        if self.parity_known:
            jobs.append(Job(self.values.pop("no tie"), {"tie": lambda x: int(x == 0)}))
            self.parity_known = False
        names = {name for job in jobs for name in job.functions}
        kept = {n: self.values.pop(n) for n in names & self.values.keys()}
        self.stages.values |= {f"held {name}": value for name, value in kept.items()}
        self.stages.run(jobs)
        for name in kept:
            add_value(self.stages, name, self.values.pop(f"held {name}"))
        if "even" in self.values:
            add_value(self.stages, "no tie", self.values.pop("even"))
            self.parity_known = True


def run_lookahead(stages: Stages, scenario: Scenario, *, reach: int) -> None:
    """Run the stages of a scenario by carry lookahead; see :class:`Lookahead`."""
    Lookahead(scenario, stages, reach=reach).run()


def _step(t: int, *, base: int | None = None) -> Function:
    return lambda x: int((x if base is None else x % base) >= t)


def _passes(base: int) -> Function:
    """Return V of a sum: 2 from ``base`` on, which makes a carry; 1 below it, which passes one."""
    return lambda x: int(x >= base - 1) + int(x >= base)


def _remainder(divisor: int) -> Function:
    return lambda x: x % divisor


def _quotient(divisor: int) -> Function:
    return lambda x: x // divisor
