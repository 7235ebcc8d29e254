"""Never slower: choose among forms by racing them, and leave out the rules that make the artifact slower."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fuseonnx.attempt import OnProgress, Recipe, Verified, cook_inside, fires
from fuseonnx.core.rule import Step
from fuseonnx.errors import BackendError
from fuseonnx.report import Choice, Speed, Undone
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.verify import Verifier
from fuseonnx.stopwatch import Stopwatch, Watch, race_until_sure, verdict_of, worth_timing

_SEARCH_SECONDS = 90.0


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
        timings = race_until_sure(recipe.source, made.path, watch)
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
        timings = race_until_sure(recipe.source, trial.path, watch)
        if verdict_of(timings) != "slower":
            return Measured(best.replaced_by(trial), Speed(verdict_of(timings), timings))
    trial.attempt.draft.discard()
    return None
