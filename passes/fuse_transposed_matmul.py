"""Fuse the transposition of a matrix and the product of two matrices into Gemm.

    MatMul(Transpose(a), b)   ⇒   Gemm(a, b, transA=1)

and so for b.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import any_of, op, var
from fuseonnx.core.rule import Match, Rule

_TRANSPOSE = op("Transpose", var("x"), name="transpose")


def guard(m: Match) -> str | None:
    """Keep out of vectors, of stacks of matrices, and of what Gemm does not multiply."""
    if any(rank(value) != 2 for value in m.root.inputs):
        return "the product is not known to be one of matrices"
    if list(m.node("transpose").attributes.get_ints("perm", (1, 0))) != [1, 0]:
        return "the matrix stays as it is"
    if m["x"].dtype not in {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16}:
        return "Gemm is for floats"
    return "Gemm needs a third input before opset 11" if m.opset < 11 else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Gemm."""
    a, b = m.root.inputs
    if a is m.node("transpose").outputs[0]:
        attributes: Attributes = {"transA": 1}
        return new.op("Gemm", m["x"], b, attributes=attributes)
    return new.op("Gemm", a, m["x"], attributes={"transB": 1})


RULE = Rule(
    "fuse_transposed_matmul",
    any_of(op("MatMul", _TRANSPOSE, var("b")), op("MatMul", var("a"), _TRANSPOSE)),
    replace,
    guard,
)
