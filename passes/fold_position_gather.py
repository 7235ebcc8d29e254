"""Read a tensor as it is where it is gathered at its own positions.

x: [b, n] ─ GatherND(rows: [b, 1, 1, n] from 0 to b, columns from 0 to n)   ⇒   x ─ Unsqueeze([1, 2])

So the exporters of Hugging Face models read the mask of paddings: at each pair of a batch and a position.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import Contents
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op, var
from fuseonnx.core.rule import Match, Rule

_AXES_ARE_AN_INPUT = 13


def guard(m: Match) -> str | None:
    """Keep out unless each number of the coordinates counts along an axis of its own, in their order."""
    if m.root.attributes.get_int("batch_dims", 0):
        return "each batch has coordinates of its own"
    return None if _new_axes(m) else "they are not the positions of the data"


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the axes of size 1."""
    axes = _new_axes(m)
    if m.opset < _AXES_ARE_AN_INPUT:
        return new.op("Unsqueeze", m["x"], attributes={"axes": axes})
    return new.op("Unsqueeze", m["x"], new.const(np.array(axes, dtype=np.int64)))


def _new_axes(m: Match) -> list[int]:
    """Return the axes of size 1 that the result has and x has not; none if it is another result."""
    joined = m.node("joined")
    before, after, coordinates = dims_of(m["x"]), dims_of(m.root.outputs[0]), dims_of(joined.outputs[0])
    if before is None or after is None or coordinates is None or len(joined.inputs) != len(before):
        return []
    if joined.attributes.get_int("axis", 1) % len(coordinates) != len(coordinates) - 1:
        return []
    contents = Contents()
    counted = [_axis_counted(contents, column) for column in joined.inputs]
    own = [axis for axis in range(len(after)) if axis in counted]
    new = [axis for axis in range(len(after)) if axis not in counted]
    is_same = counted == own and [after[axis] for axis in own] == list(before)
    return new if is_same and all(after[axis] == 1 for axis in new) else []


def _axis_counted(contents: Contents, column: ir.Value | None) -> int | None:
    """Return the axis along which the numbers of a column count from 0 on, and along no other."""
    content, dims = contents.of(column), dims_of(column)
    if content is None or content.start != 0 or dims is None or dims[-1] != 1:
        return None
    axes = [axis for axis, slope in enumerate(content.slopes) if slope != 0]
    return axes[0] if len(axes) == 1 and content.slopes[axes[0]] == 1 else None


RULE = Rule(
    "fold_position_gather",
    op("GatherND", var("x"), op("Concat", each=Var(""), name="joined")),
    replace,
    guard,
)
