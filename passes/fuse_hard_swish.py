"""Fuse the product of a value and its own HardSigmoid into HardSwish.

    x · HardSigmoid(x, alpha=1/6, beta=1/2)   ⇒   HardSwish(x)

    x·max(0, min(1, x/6 + 1/2)), https://onnx.ai/onnx/operators/onnx__HardSwish.html

HardSwish came with opset 14. `fuse_hard_sigmoid` makes the product out of other spellings. onnxruntime takes
the same time for both forms on the CPU, where it has the product computed, and has a HardSwish for CUDA.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule

_SIXTH = np.float32(1 / 6)


def guard(m: Match) -> str | None:
    """Keep out of other slopes: HardSwish has no attributes."""
    if m.opset < 14:
        return "HardSwish came with opset 14"
    attributes = m.node("gate").attributes
    line = attributes.get_float("alpha", 0.2), attributes.get_float("beta", 0.5)
    return None if np.float32(line[0]) == _SIXTH and line[1] == 0.5 else "it has another slope"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the HardSwish."""
    return new.op("HardSwish", m["x"])


RULE = Rule("fuse_hard_swish", op("Mul", var("x"), op("HardSigmoid", var("x"), name="gate")), replace, guard)
