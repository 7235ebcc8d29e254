"""Pick from what was picked in one step.

x ─ Gather(i, axis) ─ Gather(j, axis) ─ op   ⇒   x ─ Gather(i[j], axis) ─ op
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder, Refused
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import same_axis


def guard(m: Match) -> str | None:
    """Keep out unless both pick along the same axis, the first from a list."""
    if m["i"].shape is None or m["i"].shape.rank() != 1:
        return "the first picks no list"
    return None if same_axis(m.node("first"), m.root, 0) else "they pick along other axes"


def replace(m: Match, new: Builder) -> ir.Value:
    """Pick once."""
    i, j = m.array("i"), m.array("j")
    if j.size and not (-i.size <= int(j.min()) and int(j.max()) < i.size):
        raise Refused("an index is out of range")
    first = m.node("first")
    return new.op("Gather", m["x"], new.const(np.asarray(i[j]), m["i"]), attributes=first.attributes)


RULE = Rule(
    "merge_gathers",
    op("Gather", op("Gather", var("x"), const("i"), name="first"), const("j")),
    replace,
    guard,
)
