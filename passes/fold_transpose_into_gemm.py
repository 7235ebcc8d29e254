"""Fold the transposition of a matrix that Gemm multiplies into Gemm.

    Gemm(Transpose(a), b, c)   ⇒   Gemm(a, b, c, transA=1)

and so for b, and for one that is transposed already.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule

_TRANSPOSE = op("Transpose", var("x"), name="transpose")


def guard(m: Match) -> str | None:
    """Keep out of a Transpose that does nothing."""
    swaps = list(m.node("transpose").attributes.get_ints("perm", (1, 0))) == [1, 0]
    return None if swaps else "the matrix stays as it is"


def replace(m: Match, new: Builder) -> ir.Value:
    """Multiply by the matrix as it is."""
    index = next(i for i, value in enumerate(m.root.inputs) if value is m.node("transpose").outputs[0])
    flag = ("transA", "transB")[index]
    attributes: Attributes = {**m.root.attributes, flag: 1 - m.root.attributes.get_int(flag, 0)}
    inputs = list(m.root.inputs)
    inputs[index] = m["x"]
    return new.op("Gemm", *inputs, attributes=attributes)


RULE = Rule(
    "fold_transpose_into_gemm",
    any_of(
        op("Gemm", _TRANSPOSE, var("b"), maybe(var("c"))),
        op("Gemm", var("a"), _TRANSPOSE, maybe(var("c"))),
    ),
    replace,
    guard,
)
