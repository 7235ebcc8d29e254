"""Permute the axes once instead of twice.

x ─ Transpose(p) ─ Transpose(q) ─ op   ⇒   x ─ Transpose(p∘q) ─ op

Axis i of the result is axis p[q[i]] of x. Others may use the first result only if the two undo each other.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import others_use


def guard(m: Match) -> str | None:
    """Keep out of unknown permutations, and where nothing would be saved."""
    perm = _perm(m)
    if perm is None:
        return "the rank is unknown"
    if perm != sorted(perm) and others_use(m, "first"):
        return "the result of Transpose has other users"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Transpose once."""
    return new.op("Transpose", m["x"], attributes={"perm": _perm(m) or ()})


def _perm(m: Match) -> list[int] | None:
    axes = rank(m["x"])
    default = None if axes is None else range(axes)[::-1]
    first, second = (node.attributes.get_ints("perm", default) for node in (m.node("first"), m.root))
    return None if first is None or second is None else [first[axis] for axis in second]


RULE = Rule(
    "merge_transposes",
    op("Transpose", op("Transpose", var("x"), name="first", shared=True)),
    replace,
    guard,
)
