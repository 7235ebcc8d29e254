"""Time calls against each other on a machine that is never quiet, and say no more than the figures allow.

    round 1: A B B A        round 2: B A A B        round 3: A B B A ...

Within a round the turns go forwards, then backwards, so that a drift of the machine falls on all alike; each
round begins with another call, so that none has the better neighbours. A round gives one ratio; the interval
around their median is that of the sign test (order statistics), which holds for any distribution of noise.
A bootstrap of the median of seven rounds would call equal calls slower more than twice as often as it may.

Where a session's weights and buffers lie in memory alone makes it 1 to 2 % faster or slower than another
session of the same model, in every round alike. To compare models use `heats`, which opens them anew all the
time, so that this luck is a part of the noise; `race` compares the very calls that it is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

CONFIDENCE = 0.95
TURN_SECONDS = 0.01
_WARM_UP_CALLS = 2
_NEXT_LOOK = 1.25

Call = Callable[[], object]
Clock = Callable[[], float]
Enough = Callable[[list[list[float]]], bool]
Verdict = Literal["faster", "slower", "no difference"]


@dataclass(frozen=True)
class Ratio:
    """Time of a candidate divided by that of the original: below 1 is faster.

    `median` is that of the rounds' ratios, `low` to `high` its 95 % confidence interval: 0 to infinity with
    fewer than 6 rounds, of which no such interval can be made.
    """

    median: float
    low: float
    high: float
    rounds: int
    verdict: Verdict = field(init=False)
    """Whether the whole interval lies below 1, above 1, or neither."""

    def __post_init__(self) -> None:
        verdict: Verdict = "faster" if self.high < 1 else "slower" if self.low > 1 else "no difference"
        object.__setattr__(self, "verdict", verdict)


def ratio(original: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """Compare the seconds of two calls in the same rounds, as `race` and `heats` return them.

    With d of n ratios dropped at either end, the interval misses the true median with a probability of
    2 * P(Binomial(n, 1/2) <= d) at most; d is the largest with which that is no more than 5 %.
    Raises ValueError unless both hold the same number of rounds, at least one.
    """
    ratios = sorted(theirs / ours for ours, theirs in zip(original, candidate, strict=True))
    if not ratios:
        raise ValueError("no rounds to compare")
    dropped = _dropped(len(ratios))
    low, high = (0.0, math.inf) if dropped < 0 else (ratios[dropped], ratios[-1 - dropped])
    return Ratio(median(ratios), low, high, len(ratios))


def settled(times: list[list[float]], width: float = 0.02) -> bool:
    """Return whether every interval against the first call is narrower than `width`, relative to its median.

    For `enough`. It looks at the width alone: to stop as soon as 1 lies outside would find too many
    differences.
    """
    ratios = [ratio(times[0], candidate) for candidate in times[1:]]
    return all(found.high - found.low <= width * found.median for found in ratios)


def race(
    calls: Sequence[Call],
    *,
    seconds: float = 5.0,
    min_rounds: int = 7,
    enough: Enough | None = None,
    clock: Clock = time.perf_counter,
) -> list[list[float]]:
    """Return, for each call, the seconds that one call of it took in each round (median of the round's).

    Rounds go on until `seconds` for each call are spent (of the wall clock, warm-up not counted) or `enough`,
    asked now and then about what would be returned, is true; in either case not before `min_rounds`.
    """
    for call in calls:
        _turn(call, clock, _WARM_UP_CALLS)
    times: list[list[float]] = [[] for _ in calls]
    pace = _Pace(seconds * len(calls), min_rounds, enough, clock)
    while pace.goes_on(times):
        for own, runs in zip(times, _round(calls, pace.rounds, clock), strict=True):
            own.append(median(runs))
    return times


@dataclass(frozen=True)
class Heats:
    """What `heats` measured; each list has one item for every entrant, that one for every heat."""

    opening: list[list[float]]
    """Seconds to open it; of the first heat alone if it was not `reopened`."""
    runs: list[list[list[float]]]
    """Seconds of each single call, warm-up left out."""
    reopened: bool

    @property
    def times(self) -> list[list[float]]:
        """Median seconds of one call in each heat: what `ratio` compares."""
        return [[median(runs) for runs in entrant] for entrant in self.runs]


def heats(
    openers: Sequence[Callable[[], Call]],
    *,
    seconds: float = 5.0,
    min_rounds: int = 7,
    enough: Enough | None = None,
    clock: Clock = time.perf_counter,
) -> Heats:
    """Open what is to be compared and race it for as long as opening took, over and over.

    `openers` return what is called, a session's run for instance. Heats go on until `seconds` for each of
    them are spent, opening and warm-up included, or `enough` is true of the times so far; in either case not
    before `min_rounds`. If opening all of them once takes more than half of the time, they are kept.
    """
    times: list[list[float]] = [[] for _ in openers]
    opening: list[list[float]] = [[] for _ in openers]
    runs: list[list[list[float]]] = [[] for _ in openers]
    calls: list[Call] = [lambda: None] * len(openers)
    budget, reopened = seconds * len(openers), True
    pace = _Pace(budget, min_rounds, enough, clock)
    while pace.goes_on(times):
        if reopened:
            spent = _open(calls, openers, pace.rounds, clock)
            reopened = sum(spent) <= budget / 2
            for own, one in zip(opening, spent, strict=True):
                own.append(one)
        heat = _heat(calls, sum(spent) if reopened else 0.0, pace.rounds, clock)
        for number, single in enumerate(heat):
            runs[number].append(single)
            times[number].append(median(single))
    return Heats(opening, runs, reopened)


class _Pace:
    """Says when to stop: the one loop condition of races and heats."""

    def __init__(self, seconds: float, min_rounds: int, enough: Enough | None, clock: Clock) -> None:
        self.rounds = -1
        """Number of the round that is run, from 0."""
        self._seconds = seconds
        self._min_rounds = self._next_look = min_rounds
        self._enough = enough
        self._clock = clock
        self._start = clock()

    def goes_on(self, times: list[list[float]]) -> bool:
        self.rounds += 1
        if self.rounds < self._min_rounds:
            return True
        if self._enough and self.rounds >= self._next_look:
            self._next_look = math.ceil(self.rounds * _NEXT_LOOK)
            if self._enough(times):
                return False
        return self._clock() - self._start < self._seconds


def _open(calls: list[Call], openers: Sequence[Callable[[], Call]], heat: int, clock: Clock) -> list[float]:
    """Replace each of `calls` by a newly opened one and return the seconds that took.

    The one before is closed just ahead of it, so that each finds the same memory free.
    """
    seconds = [0.0] * len(openers)
    for index in _order(len(openers), heat):
        calls[index] = lambda: None
        start = clock()
        calls[index] = openers[index]()
        seconds[index] = clock() - start
    return seconds


def _heat(calls: Sequence[Call], seconds: float, heat: int, clock: Clock) -> list[list[float]]:
    """Warm up, race for `seconds`, at least one round; return the seconds of each call's runs."""
    for index in _order(len(calls), heat):
        _turn(calls[index], clock, _WARM_UP_CALLS)
    runs: list[list[float]] = [[] for _ in calls]
    start, number = clock(), heat
    while number == heat or clock() - start < seconds:
        for own, single in zip(runs, _round(calls, number, clock), strict=True):
            own.extend(single)
        number += 1
    return runs


def _round(calls: Sequence[Call], number: int, clock: Clock) -> list[list[float]]:
    """Return the seconds of each call's runs: its turns forwards and backwards together."""
    runs: list[list[float]] = [[] for _ in calls]
    forwards = _order(len(calls), number)
    for index in [*forwards, *reversed(forwards)]:
        runs[index] += _turn(calls[index], clock)
    return runs


def _order(count: int, number: int) -> list[int]:
    first = number % count
    return [*range(first, count), *range(first)]


def _turn(call: Call, clock: Clock, at_least: int = 1) -> list[float]:
    """Repeat a call until 10 ms have passed and return what each one took."""
    times: list[float] = []
    begin = before = clock()
    while len(times) < at_least or before - begin < TURN_SECONDS:
        call()
        after = clock()
        times.append(after - before)
        before = after
    return times


def _dropped(rounds: int) -> int:
    """Return how many of the sorted ratios may be dropped at either end; -1 if even all are too few."""
    below, dropped = 0, -1
    while True:
        below += math.comb(rounds, dropped + 1)
        if 2 * below / 2**rounds > 1 - CONFIDENCE:
            return dropped
        dropped += 1
