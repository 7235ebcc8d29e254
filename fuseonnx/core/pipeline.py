"""Runs stages of steps over a model until none of them changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.invariants import check
from fuseonnx.core.journal import Journal
from fuseonnx.core.rewriter import Rewriter, ping_pong
from fuseonnx.core.rule import GraphPass, Rule, Stage, Step, blame
from fuseonnx.errors import FuseOnnxError, RewriteError

_MAX_ROUNDS = 50


def run(
    model: ir.Model,
    stages: Sequence[Stage],
    journal: Journal,
    *,
    analyse: Callable[[ir.Model], bool],
    on_stage: Callable[[str], None] = lambda _name: None,
) -> None:
    """Rewrite `model` in place, stage by stage, and over again until nothing changes.

    Args:
        model: the model.
        stages: the steps in their order.
        journal: receives what happened, and says what may not.
        analyse: refreshes the facts that rules read (shapes); returns whether more is known than before.
        on_stage: told the name of each stage as it begins.

    Raises:
        RewriteError: the steps do not come to rest, or one of them broke the graph.
    """
    on_stage("analyse")
    analysed_at = None if analyse(model) else len(journal.applied)
    plan = [(stage.name, _batches(stage.steps)) for stage in stages]
    for _ in range(_MAX_ROUNDS):
        at_start = len(journal.applied)
        for name, batches in plan:
            on_stage(name)
            _run_stage(model, batches, journal)
        if len(journal.applied) > at_start:
            continue
        if len(journal.applied) == analysed_at:
            return
        on_stage("analyse")
        if not analyse(model):
            return
        analysed_at = len(journal.applied)
        for _, batches in plan:
            for batch in batches:
                batch.settled_at = None
    raise RewriteError(ping_pong(journal))


@dataclass
class _Batch:
    """Rules that share one worklist, or one graph pass."""

    steps: list[Step]
    settled_at: int | None = None
    """Length of the journal when the batch last had nothing more to do."""

    def run(self, model: ir.Model, journal: Journal) -> None:
        if self.settled_at == len(journal.applied):
            return
        rules = [step for step in self.steps if isinstance(step, Rule)]
        for step in self.steps:
            if isinstance(step, GraphPass):
                try:
                    step.run(model, journal)
                except (FuseOnnxError, MemoryError):
                    raise
                except Exception as error:
                    raise blame(step.name, "the whole model", error) from error
        changed = bool(rules) and Rewriter(model, rules, journal, Names(model)).run()
        self.settled_at = None if changed else len(journal.applied)


def _batches(steps: Sequence[Step]) -> list[_Batch]:
    """Group neighbouring rules; a graph pass stands alone."""
    batches: list[_Batch] = []
    for step in steps:
        if isinstance(step, Rule) and batches and isinstance(batches[-1].steps[-1], Rule):
            batches[-1].steps.append(step)
        else:
            batches.append(_Batch([step]))
    return batches


def _run_stage(model: ir.Model, batches: Sequence[_Batch], journal: Journal) -> None:
    for _ in range(_MAX_ROUNDS):
        at_start = len(journal.applied)
        for batch in batches:
            batch.run(model, journal)
        if len(journal.applied) == at_start:
            return
        _check(model, journal, at_start)
    raise RewriteError(ping_pong(journal))


def _check(model: ir.Model, journal: Journal, before: int) -> None:
    broken = check(model)
    if broken is not None:
        suspects = ", ".join(sorted({application.rule for application in journal.applied[before:]}))
        raise RewriteError(f"{broken} after {suspects}; use --skip on it and report the model")
