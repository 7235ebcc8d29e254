"""Who is faster: coverage of the interval on simulated noise, the order of turns, and when a race ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from fuseonnx.runtime.race import Ratio, heats, race, ratio, settled

Noise = Callable[[np.random.Generator, int], np.ndarray[Any, np.dtype[np.float64]]]
_TRIALS = 600
_TURN = 1 / 64
"""Seconds of a call that fill a turn, without rounding when they are added up."""


class FakeClock:
    """Stands still until a call says how long it took; notes who was called."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, seconds: float | Callable[[], float]) -> None:
        self.log.append(name)
        self.now += seconds() if callable(seconds) else seconds


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_too_few_rounds_show_nothing(rounds: int) -> None:
    found = ratio([1.0] * rounds, [2.0] * rounds)
    assert (found.median, found.low, found.high) == (2.0, 0.0, math.inf)
    assert found.verdict == "no difference"


@pytest.mark.parametrize(
    ("rounds", "dropped"), [(6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5), (100, 39)]
)
def test_the_interval_is_that_of_the_sign_test(rounds: int, dropped: int) -> None:
    """`dropped` from the tables of the sign test, two-sided, 5 %."""
    candidate = [float(number) for number in range(1, rounds + 1)]
    found = ratio([1.0] * rounds, candidate[::-1])
    assert (found.low, found.high) == (1.0 + dropped, float(rounds - dropped))
    assert found.rounds == rounds


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.8, 0.99), "faster"),
        ((1.01, 1.2), "slower"),
        ((0.99, 1.01), "no difference"),
        ((1.0, 1.1), "no difference"),
    ],
)
def test_verdict(interval: tuple[float, float], verdict: str) -> None:
    assert Ratio(sum(interval) / 2, *interval, rounds=9).verdict == verdict


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        ratio([], [])
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 1.0], [1.0])


def _lognormal(rng: np.random.Generator, rounds: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.exp(rng.normal(0, 0.1, (2, rounds)))


def _drifting(rng: np.random.Generator, rounds: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A machine that both share slows down and recovers, over many rounds."""
    drift = np.zeros(rounds)
    for number in range(1, rounds):
        drift[number] = 0.95 * drift[number - 1] + rng.normal(0, 0.1)
    return np.exp(drift + rng.normal(0, 0.03, (2, rounds)))


def _interrupted(rng: np.random.Generator, rounds: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Every seventh turn or so is held up by another process, for long."""
    held_up = (rng.random((2, rounds)) < 0.15) * rng.exponential(0.7, (2, rounds))
    return np.exp(rng.normal(0, 0.02, (2, rounds)) + held_up)


@pytest.mark.parametrize("noise", [_lognormal, _drifting, _interrupted])
@pytest.mark.parametrize("rounds", [7, 10, 30])
def test_equal_calls_are_rarely_called_slower(noise: Noise, rounds: int) -> None:
    """At most 2.5 % to either side; with 600 trials, 4.5 % is three standard deviations above that."""
    rng = np.random.default_rng(0)
    verdicts = [ratio(*noise(rng, rounds).tolist()).verdict for _ in range(_TRIALS)]
    assert verdicts.count("slower") / _TRIALS <= 0.045
    assert verdicts.count("faster") / _TRIALS <= 0.045


@pytest.mark.parametrize("noise", [_lognormal, _drifting, _interrupted])
def test_a_difference_of_a_fifth_is_found(noise: Noise) -> None:
    rng = np.random.default_rng(0)
    times = [noise(rng, 30) for _ in range(100)]
    verdicts = [ratio(*(each * [[1.0], [1.2]]).tolist()).verdict for each in times]
    assert verdicts.count("slower") >= 95


def test_to_stop_when_settled_finds_no_more_differences() -> None:
    """The race's own looks: at 7 rounds, then a quarter more each time."""
    rng = np.random.default_rng(1)
    slower = 0
    for _ in range(_TRIALS):
        times = _lognormal(rng, 60) ** 0.1
        rounds = 7
        while rounds < 60 and not settled(times[:, :rounds].tolist()):
            rounds = math.ceil(rounds * 1.25)
        slower += ratio(*times[:, : min(rounds, 60)].tolist()).verdict == "slower"
    assert slower / _TRIALS <= 0.045


def test_settled_looks_at_every_candidate() -> None:
    steady, shaky = [1.0] * 10, [1.0, 1.1] * 5
    assert settled([steady, steady])
    assert not settled([steady, steady, shaky])
    assert settled([steady, steady, shaky], width=0.2)


def test_turns_go_forwards_then_backwards_and_each_round_begins_with_another() -> None:
    clock = FakeClock()
    calls = [partial(clock.call, name, _TURN) for name in "ABC"]
    times = race(calls, seconds=0.0, min_rounds=3, clock=clock)
    assert "".join(clock.log) == "AABBCC" + "ABCCBA" + "BCAACB" + "CABBAC"
    assert times == [[_TURN] * 3] * 3


def test_a_drift_of_the_machine_does_not_favour_anyone() -> None:
    clock = FakeClock()
    calls = [partial(clock.call, name, lambda: 1.0 + clock.now / 100) for name in "AB"]
    assert ratio(*race(calls, seconds=0.0, min_rounds=10, clock=clock)).median == pytest.approx(1.0, abs=1e-3)


def test_a_short_call_is_repeated_for_ten_milliseconds_and_its_median_taken() -> None:
    clock = FakeClock()
    durations = iter([0.001] * 10 + [0.001, 0.001, 0.005, 0.001, 0.001, 0.001] * 2)
    times = race([partial(clock.call, "A", lambda: next(durations))], seconds=0.0, min_rounds=1, clock=clock)
    assert times == [[pytest.approx(0.001)]]
    assert len(clock.log) == 22


def test_a_race_lasts_the_seconds_of_each_call() -> None:
    clock = FakeClock()
    times = race([partial(clock.call, name, 0.125) for name in "AB"], seconds=4.0, clock=clock)
    assert len(times[0]) == len(times[1]) == 16


def test_a_race_has_its_least_rounds_however_long_they_take_and_even_if_it_is_enough() -> None:
    clock = FakeClock()
    times = race(
        [partial(clock.call, "A", 60.0)], seconds=1.0, min_rounds=7, enough=lambda _: True, clock=clock
    )
    assert len(times[0]) == 7


def test_enough_is_asked_now_and_then() -> None:
    clock = FakeClock()
    asked: list[int] = []

    def enough(times: list[list[float]]) -> bool:
        asked.append(len(times[0]))
        return len(asked) == 4

    times = race([partial(clock.call, "A", 0.01)], seconds=9.0, min_rounds=4, enough=enough, clock=clock)
    assert asked == [4, 5, 7, 9]
    assert len(times[0]) == 9


def _openers(clock: FakeClock, opening: float, calls: float) -> list[Callable[[], Callable[[], None]]]:
    def opener(name: str) -> Callable[[], None]:
        clock.call(name.upper(), opening)
        return partial(clock.call, name.lower(), calls)

    return [partial(opener, "A"), partial(opener, "B")]


def test_heats_open_anew_and_race_as_long_as_opening_took() -> None:
    clock = FakeClock()
    found = heats(_openers(clock, 0.1, 0.05), seconds=2.0, min_rounds=2, clock=clock)
    heat = "ABaabb" + "abba"
    assert "".join(clock.log).startswith(heat + "BAbbaa" + "baab" + heat)
    assert found.reopened
    assert found.opening[0] == pytest.approx([0.1] * len(found.times[0]))
    assert found.runs[1][0] == pytest.approx([0.05] * 2)


def test_what_takes_too_long_to_open_is_opened_once() -> None:
    clock = FakeClock()
    found = heats(_openers(clock, 3.0, 0.05), seconds=5.0, clock=clock)
    assert not found.reopened
    assert "".join(clock.log).count("A") == 1
    assert len(found.opening[0]) == 1
    assert len(found.times[0]) >= 7


def test_the_luck_of_a_session_is_a_part_of_the_noise() -> None:
    """Each opening makes all its runs faster or slower by up to 2 %: no reason to call one model slower."""
    rng = np.random.default_rng(0)
    slower = {"race": 0, "heats": 0}

    def opener(clock: FakeClock) -> Callable[[], None]:
        return partial(clock.call, "a", 0.02 * rng.uniform(0.98, 1.02))

    for _ in range(100):
        clock = FakeClock()
        found = heats([partial(opener, clock)] * 2, seconds=0.0, min_rounds=10, clock=clock)
        slower["heats"] += ratio(*found.times).verdict == "slower"
        fixed = race([opener(clock), opener(clock)], seconds=0.0, clock=clock)
        slower["race"] += ratio(*fixed).verdict == "slower"
    assert slower["heats"] <= 7
    assert slower["race"] >= 30
