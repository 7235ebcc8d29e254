"""Spell Celu, and from opset 22 on Elu and Selu, as operators that have CUDA kernels.

    Celu(x)   ⇒   Where(x > 0, x, α·(Exp(x/α) - 1))
    Elu(x)    ⇒   Where(x > 0, x, α·(Exp(x) - 1))
    Selu(x)   ⇒   Where(x > 0, γ·x, γ·α·(Exp(x) - 1))

Onnxruntime's own kernels subtract the 1 from the rounded Exp as well. Its CUDA kernels of Elu and Selu end at
opset 21. Source: https://onnx.ai/onnx/operators/onnx__Celu.html.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import in_float32, number
from fuseonnx.passes._scalars import FLOATS

_NO_KERNEL_SINCE = 22
_ALPHA = {"Celu": 1.0, "Elu": 1.0, "Selu": 1.67326319217681884765625}
_GAMMA = 1.05070102214813232421875
"""Defaults of the attributes; Selu alone has a γ."""


def guard(m: Match) -> str | None:
    """Keep out where there is a CUDA kernel, and of a slope that turns the sign."""
    if m.root.op_type != "Celu" and m.opset < _NO_KERNEL_SINCE:
        return "there is a CUDA kernel before opset 22"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no kernel of this dtype"
    return None if _alpha(m) > 0 else "alpha is not positive"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build both branches, and choose."""
    alpha, kind = _alpha(m), m.root.op_type
    gamma = m.root.attributes.get_float("gamma", _GAMMA) if kind == "Selu" else 1.0
    width = alpha if kind == "Celu" else 1.0

    def chosen(values: Sequence[ir.Value]) -> ir.Value:
        (x,) = values
        exponent = x if width == 1 else new.op("Div", x, number(new, width))
        bent = new.op("Sub", new.op("Exp", exponent), number(new, 1))
        bent = _scaled(new, bent, gamma * alpha)
        return new.op("Where", new.op("Greater", x, number(new, 0)), _scaled(new, x, gamma), bent)

    return in_float32(new, chosen, [m["x"]])


def _alpha(m: Match) -> float:
    return m.root.attributes.get_float("alpha", _ALPHA[m.root.op_type])


def _scaled(new: Builder, x: ir.Value, factor: float) -> ir.Value:
    return x if factor == 1 else new.op("Mul", x, number(new, factor))


RULE = Rule("decompose_elu", op(("Celu", "Elu", "Selu"), var("x")), replace, guard)
