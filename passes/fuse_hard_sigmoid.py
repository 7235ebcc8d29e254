"""Fuse a line that is cut off at 0 and at 1 into HardSigmoid.

    Clip(x + 3, 0, 6) / 6         ⇒   HardSigmoid(x, alpha=1/6, beta=1/2)
    y · Clip(x + 3, 0, 6) / 6     ⇒   y · HardSigmoid(x, alpha=1/6, beta=1/2)
    Clip(0.2·x + 0.5, 0, 1)       ⇒   HardSigmoid(x, alpha=0.2, beta=0.5)

    max(0, min(1, alpha·x + beta)), https://onnx.ai/onnx/operators/onnx__HardSigmoid.html

The line is one or two steps of arithmetic with single numbers; the factor stands before or after the product.
It must bring the bounds to 0 and 1: Clip(x + 3, 0, 6)·0.1667 ends at 1.0002, and stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of
from fuseonnx.core.pattern import Op, Pattern, any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, factor, scalar

_STEPS = ("Add", "Sub", "Mul", "Div")
_ROUNDING = 1e-6


def _step(x: Pattern, which: str) -> Op:
    return op(_STEPS, x, const(f"{which} constant"), name=which)


_LINE = any_of(_step(_step(var("x"), "first"), "second"), _step(var("x"), "first"))
_CLIP = op("Clip", _LINE, maybe(const("low")), maybe(const("high")), name="clip")
_SCALED = ("Mul", "Div")


def guard(m: Match) -> str | None:
    """Keep out unless the bounds become 0 and 1, and all constants are single numbers."""
    if m.opset < 7:
        return "arithmetic does not broadcast before opset 7"
    scale, line = _scale(m), _line(m)
    if scale is None or line is None:
        return "a constant is not a single number"
    low, high = _bound(m, "low", "min"), _bound(m, "high", "max")
    if low is None or high is None or low != 0.0 or abs(high * scale - 1.0) > _ROUNDING:
        return "the bounds are not 0 and 1"
    if ir.DataType.from_numpy(m.array("first constant").dtype) not in FLOATS:
        return "onnxruntime has no HardSigmoid of this dtype"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the HardSigmoid, and the product that it is a factor of."""
    line, scale = _line(m), _scale(m)
    assert line is not None
    assert scale is not None
    alpha, beta = (number * scale for number in line)
    gate = new.op("HardSigmoid", m["x"], attributes={"alpha": alpha, "beta": beta}, like=m.node("clip"))
    y = m.get("y")
    return gate if y is None else new.op("Mul", y, gate, like=m.node("product"))


def _scale(m: Match) -> float | None:
    if "scaled" not in m.captures.nodes:
        return 1.0
    y = m.get("y")
    return factor(m, "scaled", "scale", m["x"] if y is None else y)


def _line(m: Match) -> tuple[float, float] | None:
    """Return alpha and beta of alpha·x + beta, which is clipped."""
    alpha, beta = 1.0, 0.0
    for which in ("first", "second"):
        if which not in m.captures.nodes:
            continue
        number = scalar(m, f"{which} constant", m["x"])
        type_ = m.node(which).op_type
        if number is None or (type_ == "Div" and not number):
            return None
        if type_ in ("Add", "Sub"):
            beta += number if type_ == "Add" else -number
        else:
            by = number if type_ == "Mul" else 1.0 / number
            alpha, beta = alpha * by, beta * by
    return alpha, beta


def _bound(m: Match, name: str, attribute: str) -> float | None:
    """Return a bound of the Clip: an input, or before opset 11 an attribute; None if there is none."""
    value = m.get(name)
    if value is None:
        return m.node("clip").attributes.get_float(attribute)
    return float(array_of(value).item())


RULE = Rule(
    "fuse_hard_sigmoid",
    any_of(
        op(_SCALED, op("Mul", var("y"), _CLIP, name="product"), const("scale"), name="scaled"),
        op("Mul", op(_SCALED, var("y"), const("scale"), name="scaled"), _CLIP, name="product"),
        op(_SCALED, _CLIP, const("scale"), name="scaled"),
        _CLIP,
    ),
    replace,
    guard,
)
