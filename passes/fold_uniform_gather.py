"""Add the one row of a table that is read everywhere, without gathering it.

Add(x, Gather(table, zeros of [batch, n]))   ⇒   Add(x, table[0])

So BERT adds the embedding of its token types when the caller gives none.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.content import Contents
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless one row is read, and x has the shape of the sum."""
    if m.node("gather").attributes.get_int("axis", 0) != 0 or m["table"].shape is None:
        return "it does not gather rows"
    if dims_of(m["x"]) is None or dims_of(m["x"]) != dims_of(m.root.outputs[0]):
        return "what is gathered gives the sum its shape"
    return "the rows differ" if _row(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the row."""
    row = new.const(m.array("table")[_row(m)].copy(), like=m["table"])
    return new.op("Add", m["x"], row)


def _row(m: Match) -> int | None:
    """Return the row that is read everywhere."""
    content, dims = Contents().of(m["indices"]), dims_of(m["table"])
    if content is None or not content.is_uniform or not isinstance(content.start, int) or not dims:
        return None
    rows = dims[0]
    return content.start if isinstance(rows, int) and -rows <= content.start < rows else None


RULE = Rule(
    "fold_uniform_gather",
    op("Add", var("x"), op("Gather", const("table"), var("indices"), name="gather")),
    replace,
    guard,
)
