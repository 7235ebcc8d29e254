"""Fold what is added to the product of two matrices into Gemm.

    Gemm(a, b) + c   ⇒   Gemm(a, b, c)

where c, constant or not, broadcasts to the product.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape


def guard(m: Match) -> str | None:
    """Keep out unless c surely broadcasts to the product."""
    if m.opset < 11:
        return "Gemm needs a third input before opset 11"
    product = m.node("gemm").outputs[0]
    dims = static_shape(m["c"])
    if dims is None:
        fits = rank(product) is not None and m["c"].shape == product.shape and _is_named(m["c"])
    else:
        fits = keeps_shape(product, dims)
    return None if fits else "the sum is not known to keep the shape of the product"


def replace(m: Match, new: Builder) -> ir.Value:
    """Let Gemm add."""
    gemm = m.node("gemm")
    return new.op("Gemm", m["a"], m["b"], m["c"], attributes={**gemm.attributes, "beta": 1.0}, like=gemm)


def _is_named(value: ir.Value) -> bool:
    """Whether each dim is a number or has a name."""
    return value.shape is not None and all(
        isinstance(dim, int) or dim.value is not None for dim in value.shape
    )


RULE = Rule(
    "fold_sum_into_gemm", op("Add", op("Gemm", var("a"), var("b"), name="gemm"), var("c")), replace, guard
)
