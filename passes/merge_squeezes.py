"""Join two operators in a row that add or remove axes of size 1, or drop the pair.

x ─ Unsqueeze(a) ─ Unsqueeze(b) ─ op   ⇒   x ─ Unsqueeze(c) ─ op      so for Squeeze
x ─ Unsqueeze(a) ─ Squeeze(b) ─ op     ⇒   x ─ op                     what one adds the other removes
x ─ Squeeze(a) ─ Unsqueeze(a) ─ op     ⇒   x ─ op
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import counted, has_input, integers, others_use, with_axes


class Joined(NamedTuple):
    """What replaces the pair: an operator with its axes (None: all of size 1), or nothing if it has none."""

    op_type: str
    axes: Sequence[int] | None


def guard(m: Match) -> str | None:
    """Keep out of unknown axes, and of pairs that take two operators."""
    joined = _joined(m)
    if joined is None:
        return "the two are not one operator"
    if joined.axes != [] and others_use(m, "first"):
        return f"the result of {m.node('first').op_type} has other users"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the joint operator."""
    joined = _joined(m)
    assert joined is not None
    if joined.axes is None:
        return new.op(joined.op_type, m["x"])
    return with_axes(m, new, joined.op_type, m["x"], joined.axes) if joined.axes else m["x"]


def _joined(m: Match) -> Joined | None:
    first, second = m.node("first"), m.root
    if second.op_type == "Squeeze" and "axes" not in second.attributes and not has_input(second, 1):
        return Joined("Squeeze", None)
    a, b = integers(first, "axes", 1), integers(second, "axes", 1)
    if a is None or b is None:
        return None
    axes = rank(m["x"])
    if axes is None and min(*a, *b, 0) < 0:
        return None
    between = None if axes is None else axes + (len(a) if first.op_type == "Unsqueeze" else -len(a))
    after = None if between is None else between + (len(b) if second.op_type == "Unsqueeze" else 0)
    a = counted(a, axes if first.op_type == "Squeeze" else between)
    b = counted(b, between if second.op_type == "Squeeze" else after)
    return None if a is None or b is None else _JOINS[first.op_type, second.op_type](a, b)


def _unsqueezes(a: list[int], b: list[int]) -> Joined | None:
    return Joined("Unsqueeze", sorted((*b, *_places(a, b))))


def _squeezes(a: list[int], b: list[int]) -> Joined | None:
    return Joined("Squeeze", sorted((*a, *_places(b, a))))


def _undone(a: list[int], b: list[int]) -> Joined | None:
    """Unsqueeze(a), then Squeeze(b): what both name goes, the rest is of one kind or takes two operators."""
    added, removed = sorted({*a} - {*b}), sorted({*b} - {*a})
    if not removed:
        return Joined("Unsqueeze", [axis - sum(other < axis for other in b) for axis in added])
    if not added:
        return Joined("Squeeze", [axis - sum(other < axis for other in a) for axis in removed])
    return None


def _restored(a: list[int], b: list[int]) -> Joined | None:
    return Joined("Unsqueeze", []) if a == b else None


def _places(axes: Sequence[int], taken: Sequence[int]) -> list[int]:
    """Return where axes end up when others take the places `taken` among them."""
    free = list(islice((axis for axis in count() if axis not in taken), max(axes, default=-1) + 1))
    return [free[axis] for axis in axes]


_JOINS: Mapping[tuple[str, str], Callable[[list[int], list[int]], Joined | None]] = {
    ("Unsqueeze", "Unsqueeze"): _unsqueezes,
    ("Squeeze", "Squeeze"): _squeezes,
    ("Unsqueeze", "Squeeze"): _undone,
    ("Squeeze", "Unsqueeze"): _restored,
}
_FIRST = op(("Squeeze", "Unsqueeze"), var("x"), maybe(var("a")), name="first", shared=True)

RULE = Rule(
    "merge_squeezes",
    op(("Squeeze", "Unsqueeze"), _FIRST, maybe(var("b"))),
    replace,
    guard,
)
