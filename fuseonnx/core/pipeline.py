"""Runs stages of steps over a model until none of them changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.invariants import check
from fuseonnx.core.journal import Journal
from fuseonnx.core.rewriter import Rewriter
from fuseonnx.core.rule import GraphPass, Rule, Stage, Step
from fuseonnx.errors import RewriteError

_MAX_ROUNDS = 50


def run(
    model: ir.Model,
    stages: Sequence[Stage],
    journal: Journal,
    *,
    analyse: Callable[[ir.Model], None],
    on_stage: Callable[[str], None] = lambda _name: None,
) -> None:
    """Rewrite `model` in place, stage by stage, and over again until a whole round changes nothing.

    Args:
        model: the model.
        stages: the steps in their order.
        journal: receives what happened, and says what may not.
        analyse: refreshes the facts that rules read (shapes), before each round.
        on_stage: told the name of each stage as it begins.

    Raises:
        RewriteError: the steps do not come to rest, or one of them broke the graph.
    """
    for _ in range(_MAX_ROUNDS):
        at_start = len(journal.applied)
        on_stage("analyse")
        analyse(model)
        for stage in stages:
            on_stage(stage.name)
            _run_stage(model, stage, journal)
        if len(journal.applied) == at_start:
            return
    raise RewriteError(f"rewriting does not come to rest after {_MAX_ROUNDS} rounds; please report the model")


def _run_stage(model: ir.Model, stage: Stage, journal: Journal) -> None:
    for _ in range(_MAX_ROUNDS):
        at_start = len(journal.applied)
        for steps in _batches(stage.steps):
            before = len(journal.applied)
            if isinstance(steps[0], GraphPass):
                steps[0].run(model, journal)
            else:
                Rewriter(
                    model, [rule for rule in steps if isinstance(rule, Rule)], journal, Names(model)
                ).run()
            if len(journal.applied) > before:
                _check(model, journal, before)
        if len(journal.applied) == at_start:
            return


def _batches(steps: Sequence[Step]) -> list[list[Step]]:
    """Group neighbouring rules, which share one worklist; a graph pass stands alone."""
    batches: list[list[Step]] = []
    for step in steps:
        if isinstance(step, Rule) and batches and isinstance(batches[-1][0], Rule):
            batches[-1].append(step)
        else:
            batches.append([step])
    return batches


def _check(model: ir.Model, journal: Journal, before: int) -> None:
    broken = check(model)
    if broken is not None:
        suspects = ", ".join(sorted({application.rule for application in journal.applied[before:]}))
        raise RewriteError(f"{broken} after {suspects}; use --skip on it and report the model")
