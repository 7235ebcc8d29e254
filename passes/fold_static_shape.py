"""Replace Shape and Size of a tensor whose dims are all known by their result.

Shape(x: float[2, 3, 4])   ⇒   [2, 3, 4]
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless every dim is a number."""
    return "the shape is not static" if static_shape(m["x"]) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Compute Shape (with its `start` and `end`, opset 15) or Size."""
    shape = static_shape(m["x"])
    assert shape is not None
    if m.root.op_type == "Size":
        return new.const(np.array(math.prod(shape), dtype=np.int64))
    start = m.root.attributes.get_int("start", 0)
    end = m.root.attributes.get_int("end", len(shape))
    return new.const(np.array(shape[start:end], dtype=np.int64))


RULE = Rule("fold_static_shape", op(("Shape", "Size"), var("x")), replace, guard)
