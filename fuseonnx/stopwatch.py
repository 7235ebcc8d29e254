"""Race two artifacts at onnxruntime's default level, and say which is faster beyond noise."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from fuseonnx.report import Timing
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.binding import call_of
from fuseonnx.runtime.inputs import HIGHEST
from fuseonnx.runtime.noise import Run
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.race import Call, heats, race, ratio
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.values import leaves

if TYPE_CHECKING:
    import onnxruntime

_FASTER, _SLOWER = 0.99, 1.01
"""Ratios between which two models are equally fast for all practical purposes."""
_RUNS, _LEAST_SECONDS, _MOST_SECONDS = 60, 0.3, 5.0
"""A race may take as long as this many runs of the slower model, within these bounds."""
_LONG_SECONDS = 0.1
"""A run that takes longer is raced on the largest inputs alone."""
_LEAST_ROUNDS = 6  # fewer give no confidence interval
_PATIENCE = 3.0
"""How much longer the races take that have to confirm that a model is slower."""
_NORMAL = "normal"

Watch = Callable[[Path, Path, int], tuple[Timing, ...]]
"""Races the second model against the first: for the first time, or once more to make sure."""

lock_file: Path | None = None
"""What processes that optimize at the same time lock, so that only one of them measures."""


def race_until_sure(first: Path, second: Path, watch: Watch) -> tuple[Timing, ...]:
    """Race, and twice more if the second model seems slower: `slower` is only what is so every time.

    A noisy machine is one reason. The other is where memory happens to lie: sessions of one and the same
    model can differ by 3 % for as long as they live.
    """
    timings = watch(first, second, 0)
    if any(timing.ratio > _SLOWER for timing in timings):
        timings = watch(first, second, 1)
        if verdict_of(timings) == "slower":
            timings = watch(first, second, 2)
    return timings


def verdict_of(timings: Sequence[Timing]) -> Literal["faster", "slower", "no difference"]:
    """Return `slower` if that is so beyond noise on any inputs, else `faster` if that is."""
    if any(timing.low > 1 and timing.ratio > _SLOWER for timing in timings):
        return "slower"
    if any(timing.high < 1 and timing.ratio < _FASTER for timing in timings):
        return "faster"
    return "no difference"


@dataclass(frozen=True)
class Stopwatch:
    """Races models at onnxruntime's default level."""

    runs: Sequence[Run]
    backend: Backend

    def __call__(self, first: Path, second: Path, again: int) -> tuple[Timing, ...]:
        """Return a timing for each of the runs, or for the last; every other time, `second` is loaded first.

        Raises:
            BackendError: a model cannot be loaded or run.
        """
        with _alone():
            began = time.perf_counter()
            order = (second, first) if again % 2 else (first, second)
            sessions = {path: open_session(path, self.backend, optimized=True) for path in order}
            opening = time.perf_counter() - began
            once = max(_seconds_of(session, self.runs[-1].feeds) for session in sessions.values())
            nodes = assignment_of(sessions[second]).summary()
            runs = self.runs if once < _LONG_SECONDS else self.runs[-1:]
            seconds = max(_LEAST_SECONDS, min(_RUNS * once, _MOST_SECONDS)) * (_PATIENCE if again else 1.0)
            if 2 * _LEAST_ROUNDS * opening * len(runs) <= seconds:  # what heats take: half of it to open
                sessions.clear()
            each = seconds / len(runs)
            return tuple(
                _timing(known.label, self._times(known, (first, second), sessions, each), nodes)
                for known in runs
            )

    def _times(
        self,
        known: Run,
        paths: Sequence[Path],
        kept: Mapping[Path, onnxruntime.InferenceSession],
        seconds: float,
    ) -> list[list[float]]:
        """Race two models on one set of inputs, in new sessions each round unless some are kept."""
        each = seconds / len(paths)
        if kept:
            calls = [call_of(kept[path], known.feeds, self.backend) for path in paths]
            return race(calls, seconds=each, min_rounds=_LEAST_ROUNDS, enough=_clear)
        openers = [partial(self._open, path, known.feeds) for path in paths]
        return heats(openers, seconds=each, min_rounds=_LEAST_ROUNDS, enough=_clear).times

    def _open(self, path: Path, feeds: Feeds) -> Call:
        return call_of(open_session(path, self.backend, optimized=True), feeds, self.backend)


def worth_timing(runs: Sequence[Run]) -> list[Run]:
    """Return the first sample, or else the first normal inputs, and the largest of its kind if it differs.

    Where there are no samples, come before them inputs whose masks hide nothing: random ones hide half, and
    how long numbers that are hidden take to compute is not how long others take.
    """
    samples = list(takewhile(lambda known: _kind(known) != _NORMAL, runs))
    pool = samples or [known for known in runs if _kind(known) == _NORMAL]
    highest = [] if samples else [known for known in runs if _kind(known) == HIGHEST]
    largest = max(pool, key=_elements)
    return [*highest, *(pool[:1] if _elements(largest) == _elements(pool[0]) else [pool[0], largest])]


def _kind(known: Run) -> str:
    return known.label.split(" ")[0]


def _elements(known: Run) -> int:
    arrays = (leaf for value in known.feeds.values() for leaf in leaves(value))
    return sum(array.size for array in arrays)


def _seconds_of(session: onnxruntime.InferenceSession, feeds: Feeds) -> float:
    """Return what the second run takes: the first one still allocates."""
    run(session, feeds)
    began = time.perf_counter()
    run(session, feeds)
    return time.perf_counter() - began


def _clear(times: list[list[float]]) -> bool:
    """Whether two models differ without doubt, or by no more than matters."""
    found = ratio(*times)
    near = found.low > _FASTER and found.high < _SLOWER
    return found.high < _FASTER or found.low > _SLOWER or near


def _timing(label: str, times: list[list[float]], nodes: str) -> Timing:
    original, artifact = times
    found = ratio(original, artifact)
    return Timing(
        inputs=label,
        original=median(original),
        artifact=median(artifact),
        ratio=found.median,
        low=found.low,
        high=found.high,
        rounds=found.rounds,
        nodes=nodes,
    )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process of the same batch measures."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    if lock_file is None:
        yield
        return
    with lock_file.open() as file:  # closing it, as the end of a process does, releases the lock
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
