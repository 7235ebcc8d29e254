"""Gather along the first axis instead of at coordinates of one number each.

GatherND(x, [[4], [5]])          ⇒   Gather(x, [4, 5], axis=0)
GatherND(x, Unsqueeze(i, [-1]))  ⇒   Gather(x, i, axis=0)

So PyTorch's exporter spells x[:, i], between two Transposes, which then have nothing left to do.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import counted, integers


def guard(m: Match) -> str | None:
    """Keep out of coordinates of several numbers, and of those that begin behind an axis of batches.

    Keep out of texts too, of which onnxruntime's Gather copies but the first of each row (1.31.1 and 1.32.0).
    """
    if m.root.attributes.get_int("batch_dims", 0):
        return "each batch has coordinates of its own"
    if m["x"].dtype in (None, ir.DataType.STRING):
        return "Gather may not take texts"
    return None if _is_column(m["coordinates"]) else "they are not known to be one number each"


def replace(m: Match, new: Builder) -> ir.Value:
    """Gather at the numbers themselves."""
    coordinates = m["coordinates"]
    if is_const(coordinates):
        indices = new.const(m.array("coordinates")[..., 0], coordinates)
    else:
        indices = _unsqueezed(coordinates)
    return new.op("Gather", m["x"], indices, attributes={"axis": 0})


def _is_column(coordinates: ir.Value) -> bool:
    """Whether the last axis has size 1, and it is known what there is without it."""
    if is_const(coordinates):
        shape = coordinates.shape
        return shape is not None and shape.rank() > 0 and shape[-1] == 1
    node = coordinates.producer()
    if node is None or node.op_type != "Unsqueeze" or node.domain:
        return False
    axes, ranks = integers(node, "axes", 1), rank(coordinates)
    return axes is not None and ranks is not None and counted(axes, ranks) == [ranks - 1]


def _unsqueezed(coordinates: ir.Value) -> ir.Value:
    node = coordinates.producer()
    assert node is not None and node.inputs[0] is not None
    return node.inputs[0]


RULE = Rule("spell_gather_nd", op("GatherND", var("x"), var("coordinates")), replace, guard)
