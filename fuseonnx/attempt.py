"""One run from the source to a draft of the artifact, and the search for the rewrite that made one wrong."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fuseonnx
from fuseonnx.analysis.shapes import annotate
from fuseonnx.analysis.stats import graph_stats
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Application, Journal
from fuseonnx.core.rule import Stage, Step
from fuseonnx.errors import RewriteError
from fuseonnx.io.freeze import freeze
from fuseonnx.io.load import Loaded, load
from fuseonnx.io.save import Draft, write_draft
from fuseonnx.report import SWITCHED_OFF, GraphStats, RolledBack, Verification
from fuseonnx.runtime.verify import Verifier

_MAX_ROLLBACKS_PER_RULE = 3


OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """All that decides what the artifact will be; cooking it twice gives the same bytes."""

    source: Path
    destination: Path
    stages: Sequence[Stage]
    fix_shapes: Mapping[str, Sequence[int]]
    external_data: bool
    forms: Sequence[Step] = ()
    """Rules that run when the stages are at rest, with the stage `simplify` alone: others may undo them."""

    def without(self, rules: Container[str]) -> Recipe:
        """Return the recipe in which these rules do not run."""
        stages = tuple(Stage(each.name, _others(each.steps, rules)) for each in self.stages)
        return replace(self, stages=stages, forms=_others(self.forms, rules))


def _others(steps: Sequence[Step], rules: Container[str]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.name not in rules)


@dataclass(frozen=True)
class Attempt:
    """A draft, and how it came about."""

    draft: Draft
    journal: Journal
    sha256: str
    before: GraphStats
    after: GraphStats

    @property
    def sites(self) -> Counter[str]:
        """Rule to the number of places that it rewrote, in the order in which the rules first fired."""
        return Counter(application.rule for application in self.journal.applied)


@dataclass(frozen=True)
class Verified:
    """An attempt that gives the original's answers, or whose verification was skipped."""

    attempt: Attempt
    verification: Verification
    rolled_back: tuple[RolledBack, ...] = ()

    @property
    def path(self) -> Path:
        """The draft's model file."""
        return self.attempt.draft.path

    def replaced_by(self, other: Verified) -> Verified:
        """Return `other`, whose files take the place of this draft's."""
        for file in self.attempt.draft.folder.iterdir():
            if file.is_file():
                file.unlink()
        other.attempt.draft.publish()
        return replace(other, attempt=replace(other.attempt, draft=self.attempt.draft))


def cook(recipe: Recipe, journal: Journal, on_progress: OnProgress = lambda _stage: None) -> Attempt:
    """Load the source, rewrite it as far as `journal` admits, and write a draft.

    Raises:
        ModelLoadError, ModelSaveError, RewriteError: see `load`, `write_draft` and `pipeline.run`.
    """
    loaded, before = _rewritten(recipe, journal, on_progress)
    _sign(loaded, journal)
    on_progress("save")
    draft = write_draft(
        loaded.model, loaded.signature, recipe.destination, external_data=recipe.external_data
    )
    after = graph_stats(loaded.model, sum(file.stat().st_size for file in draft.folder.iterdir()))
    return Attempt(draft, journal, loaded.sha256, before, after)


def _rewritten(recipe: Recipe, journal: Journal, on_progress: OnProgress) -> tuple[Loaded, GraphStats]:
    """Return the rewritten model, and what it was before."""
    on_progress("load")
    loaded = load(recipe.source)
    before = graph_stats(loaded.model, loaded.file_bytes)
    loaded = freeze(loaded, recipe.fix_shapes)
    with about(recipe.source):
        pipeline.run(loaded.model, recipe.stages, journal, analyse=annotate, on_stage=on_progress)
        if recipe.forms:
            tidy = (stage for stage in recipe.stages if stage.name == "simplify")
            forms = (Stage("forms", tuple(recipe.forms)), *tidy)
            pipeline.run(loaded.model, forms, journal, analyse=annotate, on_stage=on_progress)
    return loaded, before


@contextlib.contextmanager
def about(source: Path) -> Iterator[None]:
    """Name the model in the errors of its rewriting."""
    try:
        yield
    except RewriteError as error:
        raise RewriteError(f"{source}: {error}") from error


def cook_unverified(recipe: Recipe, on_progress: OnProgress) -> Verified:
    """Cook without comparing."""
    return Verified(cook(recipe, Journal(), on_progress), SWITCHED_OFF)


def cook_verified(
    recipe: Recipe, verifier: Verifier, on_progress: OnProgress = lambda _stage: None
) -> Verified:
    """Cook, compare with the original, and roll back by name each rewrite that changes the answers.

    Raises:
        RewriteError: the artifact is wrong even without any rewrite.
    """
    rolled_back: list[RolledBack] = []
    while True:
        attempt = cook(recipe, _journal_without(rolled_back), on_progress)
        on_progress("verify")
        verification = verifier.compare(attempt.draft.path)
        if verification.status != "failed":
            return Verified(attempt, verification, tuple(rolled_back))
        attempt.draft.discard()
        on_progress("find the wrong rewrite")
        guilty = _guilty(recipe, verifier, rolled_back, attempt.journal.applied)
        if guilty is None:
            raise RewriteError(
                f"{recipe.source}: verification fails even without any rewrite ({verification.reason}); "
                "give real data with --inputs, or use --no-verify"
            )
        rolled_back.append(RolledBack(guilty.rule, guilty.at, verification.reason))


def fires(rule: str, recipe: Recipe, best: Verified) -> bool:
    """Whether a rule rewrites anything in another recipe."""
    journal = _journal_without(best.rolled_back)
    _rewritten(recipe, journal, lambda _stage: None)
    return any(application.rule == rule for application in journal.applied)


def cook_inside(best: Verified, recipe: Recipe, verifier: Verifier) -> Verified:
    """Cook another recipe, with its draft inside that of the best artifact so far, and compare.

    What was rolled back for the best stays out; what is wrong beyond that is not searched for: the status of
    the verification is then `failed`.
    """
    attempt = cook(replace(recipe, destination=best.path), _journal_without(best.rolled_back))
    return Verified(attempt, verifier.compare(attempt.draft.path), best.rolled_back)


def _journal_without(rolled_back: Sequence[RolledBack], limit: int | None = None) -> Journal:
    """Return a journal that admits nothing that was wrong, and of a rule that often was, nothing at all."""
    counts = Counter(each.rule for each in rolled_back)
    return Journal(
        limit,
        denied=frozenset(Application(each.rule, each.at) for each in rolled_back),
        banned=frozenset(rule for rule, count in counts.items() if count >= _MAX_ROLLBACKS_PER_RULE),
    )


def _guilty(
    recipe: Recipe, verifier: Verifier, rolled_back: Sequence[RolledBack], applied: Sequence[Application]
) -> Application | None:
    """Return the first application after which the answers differ, or None if they do before any.

    Bisects over the number of applications: runs are deterministic, so a limit replays a prefix of the run.
    """
    passes, fails = -1, len(applied)
    while fails - passes > 1:
        limit = (passes + fails) // 2
        attempt = cook(recipe, _journal_without(rolled_back, limit))
        failed = verifier.compare(attempt.draft.path).status == "failed"
        attempt.draft.discard()
        passes, fails = (passes, limit) if failed else (limit, fails)
    return applied[fails - 1] if fails else None


def _sign(loaded: Loaded, journal: Journal) -> None:
    """Note in the model's metadata what was done; a model that nothing was done to keeps what it says."""
    if journal.applied:
        fired = {use.name: use.fired for use in journal.uses() if use.fired}
        loaded.model.metadata_props.update(
            {
                "fuseonnx.version": fuseonnx.__version__,
                "fuseonnx.source_sha256": loaded.sha256,
                "fuseonnx.rules": json.dumps(fired, sort_keys=True),
            }
        )
