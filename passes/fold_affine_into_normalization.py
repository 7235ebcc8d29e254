"""Fold a constant that a normalization's result is combined with into its scale and bias.

    Normalization(x, scale, bias) ─ ·s ─ +t   ⇒   Normalization(x, scale·s, bias·s + t)

one step at a time, for LayerNormalization over the last axis, InstanceNormalization, and RMSNormalization,
which has no bias and takes factors only.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder, Refused
from fuseonnx.core.constants import array_of
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._affine import arithmetic_affine, arithmetic_with_constant, cast_finite

_TYPES = ("LayerNormalization", "InstanceNormalization", "RMSNormalization")


def guard(m: Match) -> str | None:
    """Keep out of normalizations over several axes."""
    axes, target = rank(m["x"]), m.node("target")
    if axes is None:
        return "the rank is unknown"
    if target.op_type == "InstanceNormalization":
        return None
    return None if target.attributes.get_int("axis", -1) in (-1, axes - 1) else "several axes are normalized"


def replace(m: Match, new: Builder) -> ir.Value:
    """Give scale and bias the constant."""
    target, scale, axes = m.node("target"), m.array("scale"), rank(m["x"])
    assert axes is not None
    axis = 1 if target.op_type == "InstanceNormalization" else axes - 1
    by, added = arithmetic_affine(m, scale.size, axes, axis)
    inputs = [m["x"], new.const(cast_finite(scale.astype(np.float64) * by, scale.dtype), m["scale"])]
    if target.op_type != "RMSNormalization":
        bias = m.get("bias")
        old = 0.0 if bias is None else array_of(bias).astype(np.float64)
        inputs.append(new.const(cast_finite(old * by + added, scale.dtype), bias))
    elif added.any():
        raise Refused("RMSNormalization has no bias")
    return new.op(target.op_type, *inputs, attributes=target.attributes, like=target)


RULE = Rule(
    "fold_affine_into_normalization",
    arithmetic_with_constant(op(_TYPES, var("x"), const("scale"), maybe(const("bias")), name="target")),
    replace,
    guard,
)
