"""Spell Hardmax as operators that have CUDA kernels.

    Hardmax(x, axis)   ⇒   OneHot(ArgMax(x, axis), depth = size of the axis, [0, 1], axis)

Both take the first of several maxima.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._scalars import FLOATS

_ONE_AXIS = 13
_ONE_HOT = 11


def guard(m: Match) -> str | None:
    """Keep out of unknown sizes, and of several axes at once."""
    if m.opset < _ONE_HOT:
        return "OneHot has no CUDA kernel before opset 11"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no Hardmax of this dtype"
    dims, axis = known_dims(m["x"]), _axis(m)
    if not dims or not dims[axis]:
        return "the size of the axis is unknown"
    if m.opset < _ONE_AXIS and axis % len(dims) != len(dims) - 1:
        return "before opset 13 the axes from there on count as one"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the index of the maximum, and one-hot vectors of it."""
    dims, axis = known_dims(m["x"]), _axis(m)
    assert dims is not None and m["x"].dtype is not None
    index = new.op("ArgMax", m["x"], attributes={"axis": axis, "keepdims": 0})
    depth = new.const(np.array(dims[axis], np.int64))
    off_on = new.const(np.array([0, 1], m["x"].dtype.numpy()))
    return new.op("OneHot", index, depth, off_on, attributes={"axis": axis})


def _axis(m: Match) -> int:
    return m.root.attributes.get_int("axis", -1 if m.opset >= _ONE_AXIS else 1)


RULE = Rule("decompose_hardmax", op("Hardmax", var("x")), replace, guard)
