"""Never slower: race artifacts, choose among forms by it, and leave out the rules that make one slower."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from fuseonnx.attempt import OnProgress, Recipe, Verified, cook_inside, fires
from fuseonnx.core.rule import Step
from fuseonnx.errors import BackendError
from fuseonnx.report import Choice, Speed, Timing, Undone
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.binding import call_of
from fuseonnx.runtime.inputs import HIGHEST
from fuseonnx.runtime.noise import Run
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.race import Call, heats, race, ratio
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.values import leaves
from fuseonnx.runtime.verify import Verifier

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
_SEARCH_SECONDS = 90.0
_NORMAL = "normal"

Watch = Callable[[Path, Path, int], tuple[Timing, ...]]
"""Races the second model against the first: for the first time, or once more to make sure."""

lock_file: Path | None = None
"""What processes that optimize at the same time lock, so that only one of them measures."""


@dataclass(frozen=True)
class Measured:
    """An artifact that is no slower than its original, as far as that was measured."""

    made: Verified
    speed: Speed
    choices: tuple[Choice, ...] = ()
    undone: tuple[Undone, ...] = ()


def not_measured(made: Verified, reason: str) -> Measured:
    """Return an artifact of which the speed is unknown."""
    return Measured(made, Speed("not measured", reason=reason))


def measure_and_choose(
    recipe: Recipe,
    forms: Sequence[Step],
    verifier: Verifier,
    made: Verified,
    backend: Backend,
    on_progress: OnProgress,
) -> Measured:
    """Choose among the forms, then leave out what makes the artifact slower than its source.

    The draft of what is returned is that of `made`, with other files where that is better.
    """
    if made.verification.status != "passed":
        return not_measured(made, made.verification.reason)
    watch = Stopwatch(worth_timing(verifier.runs), backend)
    recipe, made, choices = choose_forms(recipe, forms, verifier, made, watch, on_progress)
    measured = never_slower(recipe, verifier, made, watch, on_progress)
    speed = replace(measured.speed, provider=backend.provider.name, threads=backend.threads)
    return replace(measured, speed=speed, choices=choices)


def choose_forms(
    recipe: Recipe,
    forms: Sequence[Step],
    verifier: Verifier,
    best: Verified,
    watch: Watch,
    on_progress: OnProgress,
) -> tuple[Recipe, Verified, tuple[Choice, ...]]:
    """Try one form after the other on top of the best artifact so far, and keep each that makes it faster."""
    choices: list[Choice] = []
    for form in forms:
        on_progress(f"try {form.name}")
        candidate = replace(recipe, forms=(*recipe.forms, form))
        if not fires(form.name, candidate, best):
            continue
        trial = cook_inside(best, candidate, verifier)
        choices.append(_choice(form.name, trial, best, watch))
        if choices[-1].kept:
            recipe, best = candidate, best.replaced_by(trial)
        else:
            trial.attempt.draft.discard()
    return recipe, best, tuple(choices)


def _choice(rule: str, trial: Verified, best: Verified, watch: Watch) -> Choice:
    sites = trial.attempt.sites[rule]
    if trial.verification.status == "failed":
        return Choice(rule, sites, kept=False, reason=trial.verification.reason)
    try:
        timings = watch(best.path, trial.path, 0)
        if verdict_of(timings) == "faster":
            timings = watch(best.path, trial.path, 1)
    except BackendError as error:
        return Choice(rule, sites, kept=False, reason=str(error))
    return Choice(rule, sites, verdict_of(timings) == "faster", timings)


def never_slower(
    recipe: Recipe, verifier: Verifier, made: Verified, watch: Watch, on_progress: OnProgress
) -> Measured:
    """Race the artifact against its source; if it is slower, leave out as few rules as make it not slower."""
    sites = made.attempt.sites
    if not sites:
        return not_measured(made, "no rule fired")
    on_progress("measure")
    try:
        timings = _race_until_sure(recipe.source, made.path, watch)
    except BackendError as error:
        return not_measured(made, str(error))
    if verdict_of(timings) != "slower":
        return Measured(made, Speed(verdict_of(timings), timings))
    on_progress("find the slow rewrite")
    worst = max(timing.ratio for timing in timings)
    measured, out = _without_what_is_slow(recipe, verifier, made, watch)
    return replace(measured, undone=tuple(Undone(rule, sites[rule], worst) for rule in out))


def _without_what_is_slow(
    recipe: Recipe, verifier: Verifier, slow: Verified, watch: Watch
) -> tuple[Measured, tuple[str, ...]]:
    """Return an artifact that is not slower, and the rules that are left out of it.

    At first all are. Then halves, quarters and so on are let in again if that makes the artifact no slower.
    """
    out = tuple(slow.attempt.sites)
    best = slow.replaced_by(cook_inside(slow, replace(recipe, stages=(), forms=()), verifier))
    measured = not_measured(best, "every rule was undone")
    deadline = time.monotonic() + _SEARCH_SECONDS
    size = len(out)
    while size > 1:
        size = (size + 1) // 2
        for part in [out[start : start + size] for start in range(0, len(out), size)]:
            fewer = tuple(rule for rule in out if rule not in part)
            if not fewer or time.monotonic() > deadline:
                continue
            better = _let_in(measured.made, recipe.without(fewer), verifier, watch)
            if better:
                measured, out = better, fewer
    return measured, out


def _let_in(best: Verified, recipe: Recipe, verifier: Verifier, watch: Watch) -> Measured | None:
    """Return the artifact of another recipe in the place of the best, or None if it is wrong or slower."""
    trial = cook_inside(best, recipe, verifier)
    if trial.verification.status != "failed":
        timings = _race_until_sure(recipe.source, trial.path, watch)
        if verdict_of(timings) != "slower":
            return Measured(best.replaced_by(trial), Speed(verdict_of(timings), timings))
    trial.attempt.draft.discard()
    return None


def _race_until_sure(first: Path, second: Path, watch: Watch) -> tuple[Timing, ...]:
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
