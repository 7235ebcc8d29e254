"""Spell InstanceNormalization, from opset 22 on, as operators that have CUDA kernels.

    InstanceNormalization(x, g, b, ε)   ⇒   g·y + b,  y = LayerNormalization(x as [N, C, L], 1, ε)

for x [N, C, spatial…] with L places each, and g and b [C, 1…]. Onnxruntime's CUDA kernel ends at opset 21.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._gpu import in_float32
from fuseonnx.passes._scalars import FLOATS

_NO_KERNEL_SINCE = 22
_EPSILON = 1e-5


def guard(m: Match) -> str | None:
    """Keep out where there is a CUDA kernel, and of spatial sizes that are unknown."""
    if m.opset < _NO_KERNEL_SINCE:
        return "there is a CUDA kernel before opset 22"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no InstanceNormalization of this dtype"
    return None if all(_sizes(m)) else "a spatial size is unknown"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the normalization of the places, and the affine map of the channels."""
    sizes = [size or 0 for size in _sizes(m)]
    ones = np.ones(math.prod(sizes), np.float32)
    epsilon = m.root.attributes.get_float("epsilon", _EPSILON)

    def normalized(values: Sequence[ir.Value]) -> ir.Value:
        x, gamma, beta = values
        rows = new.op("Reshape", x, new.const(np.array([0, 0, ones.size], np.int64)))
        unit = new.op("LayerNormalization", rows, new.const(ones), attributes={"epsilon": epsilon})
        image = new.op("Reshape", unit, new.const(np.array([0, 0, *sizes], np.int64)))
        column = new.const(np.array([-1, *(1 for _ in sizes)], np.int64))
        scaled = new.op("Mul", image, new.op("Reshape", gamma, column))
        return new.op("Add", scaled, new.op("Reshape", beta, column))

    return in_float32(new, normalized, [m["x"], m["gamma"], m["beta"]])


def _sizes(m: Match) -> list[int | None]:
    """Return the spatial sizes; one unknown size where the rank is unknown, or there is no spatial axis."""
    return (known_dims(m["x"]) or [])[2:] or [None]


RULE = Rule(
    "decompose_instance_normalization",
    op("InstanceNormalization", var("x"), var("gamma"), var("beta")),
    replace,
    guard,
)
