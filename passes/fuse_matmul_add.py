"""Fuse the product of two matrices and the addition of a bias into Gemm.

    MatMul(x, w) + b   ⇒   Gemm(x, w, b)

x and w are matrices, b has one number for each column (or one for all).
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out of products of other ranks, and of biases that would broadcast the product."""
    if m.opset < 7:
        return "Gemm does not broadcast before opset 7"
    w = static_shape(m["w"])
    if rank(m["x"]) != 2 or w is None or len(w) != 2:
        return "the product is not known to be a matrix"
    b = static_shape(m["b"])
    if b not in {(), (1,), (w[1],), (1, 1), (1, w[1])}:
        return "the bias is not one number for each column"
    if m["x"].dtype not in {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16}:
        return "Gemm is for floats"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Gemm."""
    return new.op("Gemm", m["x"], m["w"], m["b"], like=m.node("product"))


RULE = Rule(
    "fuse_matmul_add", op("Add", op("MatMul", var("x"), var("w"), name="product"), const("b")), replace, guard
)
