"""Spell a normalization by the root mean square as onnxruntime knows it, where the opset has no operator.

    gamma · (x · Reciprocal(Sqrt(ReduceMean(x²) + ε)))   ⇒   (x / Sqrt(ReduceMean(Pow(x, 2)) + ε)) · gamma
    x · (Reciprocal(Sqrt(…)) · gamma)                    ⇒   (x / Sqrt(…)) · gamma

onnxruntime fuses the right side into one kernel when it loads a model, and few of the other spellings.
Source: Zhang & Sennrich 2019, arXiv:1910.07467, equation 4. From opset 23 on there is RMSNormalization, see
fuse_rms_normalization.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._normalization import (
    axes_of,
    epsilon_of,
    is_trailing,
    is_unusual,
    over_root_mean_square,
    parameter,
    reciprocal_root,
)

_X = var("x")
_AXES_ARE_INPUTS = 18
_HAS_OPERATOR = 23


def guard(m: Match) -> str | None:
    """Keep out of what has an operator, is spelled so already, or that onnxruntime does not fuse."""
    if m.opset >= _HAS_OPERATOR or _is_spelled(m):
        return ""
    if m["x"].dtype is not ir.DataType.FLOAT:
        return "onnxruntime fuses it for float32"
    axes = axes_of(m)
    if axes is None or len(axes) > 1 or not is_trailing(axes, m["x"]):
        return "the axes are not the last one"
    return is_unusual(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Divide by the root, then multiply by gamma."""
    x, axes = m["x"], axes_of(m)
    assert axes is not None
    gamma = new.const(parameter(m, "gamma", axes, 1.0), m["gamma"])
    square = new.op("Pow", x, new.const(np.array(2, np.float32)))
    if m.opset >= _AXES_ARE_INPUTS:
        mean = new.op("ReduceMean", square, new.const(np.array([-1])), like=m.node("mean square"))
    else:
        mean = new.op("ReduceMean", square, attributes={"axes": [-1]}, like=m.node("mean square"))
    shifted = new.op("Add", mean, new.const(np.array(epsilon_of(m), np.float32)))
    return new.op("Mul", new.op("Div", x, new.op("Sqrt", shifted)), gamma)


def _is_spelled(m: Match) -> bool:
    """Whether it is Div by Sqrt of the mean of Pow."""
    divisions = [each for value in m.root.inputs if value and (each := value.producer())]
    is_divided = any(each.op_type == "Div" and each.inputs[0] is m["x"] for each in divisions)
    return is_divided and m.get("two") is not None and m.get("half") is None


RULE = Rule(
    "spell_rms_normalization",
    any_of(
        op("Mul", _X, op("Mul", reciprocal_root(_X), const("gamma"))),
        op("Mul", over_root_mean_square(_X), const("gamma")),
    ),
    replace,
    guard,
)
