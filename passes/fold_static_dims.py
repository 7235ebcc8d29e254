"""Replace arithmetic on shapes by its result, when the dims that matter are known and others are not.

Gather(Shape(x: float[batch, 3, 224, 224]), 1)            ⇒   3
Slice(Shape(x: float[batch, 3, 224, 224]), 2, 4)          ⇒   [224, 224]
Div(Shape(x: float[batch, 8])[1], 2)                      ⇒   4
Equal(Concat(Shape(x)[0:1], [-1]), [-1, -1])              ⇒   [false, true]
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.elements import ON_SHAPES
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless the result is a short list of integers and each is a known number."""
    result = m.root.outputs[0]
    if elements_of(result) is None:
        return ""
    return "a dim that is read is not static" if integers_of(result) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Keep the numbers as a constant."""
    result = m.root.outputs[0]
    dtype, dims = result.dtype, dims_of(result)
    assert dtype is not None and dims is not None
    numbers = np.array(integers_of(result), dtype=np.int64).astype(dtype.numpy())
    return new.const(numbers if dims else numbers.reshape(()))


RULE = Rule("fold_static_dims", op(tuple(sorted(ON_SHAPES)), each=Var("")), replace, guard)
