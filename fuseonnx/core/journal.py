"""The record of a run: what fired, what kept out and why, and which applications may not happen.

Rewriting is deterministic, so an application is named by its rule and by the value that it replaces, and
running again with a limit or with some applications denied replays the same run up to that point. That is
how a wrong rewrite is found and rolled back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from fuseonnx.report import RuleUse, SkippedFold


class Application(NamedTuple):
    """A rule, and the name of the value that it replaced."""

    rule: str
    at: str


class Decline(NamedTuple):
    """Why a rule kept out of a node."""

    op: str
    reason: str


@dataclass
class Journal:
    """What one run of the pipeline did.

    Attributes:
        limit: how many applications may happen; None is no limit.
        denied: applications that may not happen.
        banned: rules of which no application may happen.
    """

    limit: int | None = None
    denied: frozenset[Application] = frozenset()
    banned: frozenset[str] = frozenset()
    applied: list[Application] = field(default_factory=list)
    declined: dict[Application, Decline] = field(default_factory=dict)

    def admits(self, rule: str, at: str) -> bool:
        """Whether this application may happen."""
        full = self.limit is not None and len(self.applied) >= self.limit
        return not full and rule not in self.banned and Application(rule, at) not in self.denied

    def record(self, rule: str, at: str) -> None:
        """Note that an application happened."""
        application = Application(rule, at)
        self.applied.append(application)
        self.declined.pop(application, None)

    def decline(self, rule: str, at: str, op: str, reason: str) -> None:
        """Note that a rule's pattern matched, and why it kept out."""
        self.declined[Application(rule, at)] = Decline(op, reason)

    def uses(self) -> tuple[RuleUse, ...]:
        """Return, for each rule that fired or kept out, how often."""
        fired = Counter(application.rule for application in self.applied)
        declined: dict[str, Counter[str]] = {}
        for application, decline in self.declined.items():
            declined.setdefault(application.rule, Counter())[decline.reason] += 1
        names = sorted({*fired, *declined}, key=lambda name: (-fired[name], name))
        return tuple(RuleUse(name, fired[name], dict(declined.get(name, {}))) for name in names)

    def skipped_folds(self, rule: str) -> tuple[SkippedFold, ...]:
        """Return the constant expressions that `rule` left in the graph."""
        return tuple(
            SkippedFold(application.at, decline.op, decline.reason)
            for application, decline in self.declined.items()
            if application.rule == rule
        )
