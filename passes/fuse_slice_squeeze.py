"""Pick one index instead of taking a slice of one and dropping its axis.

x ─ Slice([2:3], axis 0) ─ Squeeze([0]) ─ op   ⇒   x ─ Gather(2, axis 0) ─ op
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import TO_THE_END, counted, integers
from fuseonnx.passes.merge_slices import Cut, read_cuts


def guard(m: Match) -> str | None:
    """Keep out unless one index of one axis is taken, and it goes; and of texts, as spell_gather_nd does."""
    if m["x"].dtype in (None, ir.DataType.STRING):
        return "Gather may not take texts"
    axes = rank(m["x"])
    cuts, gone = read_cuts(m.node("slice"), axes), integers(m.root, "axes", 1)
    if cuts is None or gone is None:
        return "the bounds are unknown"
    if len(cuts) != 1 or counted(gone, axes) != list(cuts):
        return "another axis goes"
    return None if _is_one(next(iter(cuts.values()))) else "it takes more than one"


def replace(m: Match, new: Builder) -> ir.Value:
    """Gather the one index."""
    ((axis, cut),) = (read_cuts(m.node("slice"), rank(m["x"])) or {}).items()
    index = new.const(np.array(cut[0], dtype=np.int64))
    return new.op("Gather", m["x"], index, attributes={"axis": axis})


def _is_one(cut: Cut) -> bool:
    """Whether a cut takes one index, or none: then Squeeze fails, and so does Gather."""
    start, end, step = cut
    return step == 1 and (end == start + 1 != 0 or (start == -1 and end >= TO_THE_END))


RULE = Rule(
    "fuse_slice_squeeze",
    op(
        "Squeeze",
        op(
            "Slice",
            var("x"),
            maybe(const("starts")),
            maybe(const("ends")),
            maybe(const("axes")),
            maybe(const("steps")),
            name="slice",
        ),
        maybe(const("gone")),
    ),
    replace,
    guard,
)
