"""Fuse the Gaussian error linear unit, spelled with Erf or approximated with Tanh, into Gelu.

    x · 0.5 · (1 + Erf(x / √2))                            ⇒   Gelu(x)
    x · 0.5 · (1 + Tanh(√(2/π) · (x + 0.044715·x³)))       ⇒   Gelu(x, approximate="tanh")

in any order of the products. Source: Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2.

Gelu came with opset 20.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, is_factor, is_number

_X = var("x")
_SCALED = ("Mul", "Div")
_CUBE = any_of(op("Pow", _X, const("three")), op("Mul", _X, op("Mul", _X, _X)))
_SQUARES = any_of(
    op("Mul", const("cubic"), op("Mul", _X, _X)),
    op("Mul", op("Mul", const("cubic"), _X), _X),
)
_POLYNOMIAL = any_of(
    op("Mul", const("inner"), op("Add", _X, op("Mul", const("cubic"), _CUBE))),
    op("Mul", op("Mul", const("inner"), _X), op("Add", const("unit"), _SQUARES)),
)
_BELL = any_of(
    op("Erf", op(_SCALED, _X, const("root"), name="scaled")),
    op("Tanh", _POLYNOMIAL, name="tanh"),
)
_GATE = op("Add", _BELL, const("one"))


def guard(m: Match) -> str | None:
    """Keep out of other constants."""
    if m.opset < 20:
        return "Gelu came with opset 20"
    x = m["x"]
    if x.dtype not in FLOATS:
        return "onnxruntime has no Gelu of this dtype"
    numbers = {"one": 1.0, "unit": 1.0, "three": 3.0, "cubic": 0.044715, "inner": math.sqrt(2 / math.pi)}
    exact = all(is_number(m, name, number, x) for name, number in numbers.items() if m.get(name) is not None)
    halves = is_factor(m, "halved", "half", 0.5, x)
    root = "tanh" in m.captures.nodes or is_factor(m, "scaled", "root", math.sqrt(0.5), x)
    return None if exact and halves and root else "other constants"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Gelu."""
    return new.op("Gelu", m["x"], attributes={"approximate": "tanh"} if "tanh" in m.captures.nodes else {})


RULE = Rule(
    "fuse_gelu",
    any_of(
        op(_SCALED, op("Mul", _X, _GATE), const("half"), name="halved"),
        op("Mul", _X, op(_SCALED, _GATE, const("half"), name="halved")),
        op("Mul", op(_SCALED, _X, const("half"), name="halved"), _GATE),
    ),
    replace,
    guard,
)
