"""Add the bias of a product before its columns are taken apart, where Gemm can take it in.

x ─ MatMul(w: [k, 32]) ─ Reshape([-1, 16, 4, 8]) ─ +c: [4, 8]
    ⇒   x ─ MatMul(w) ─ +c: [32] ─ Reshape([-1, 16, 4, 8])

So Keras exports the projections of its MultiHeadAttention. The sum costs the same in either place, and
nothing where the product can take it in.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape, known_dims

_NUMPY_BROADCAST = 7


def guard(m: Match) -> str | None:
    """Keep out unless the bias has one number for each column, or for some of them together."""
    if m.opset < _NUMPY_BROADCAST:
        return "sums do not broadcast before opset 7"
    columns = _columns(m)
    if columns is None:
        return "the Reshape does not take columns apart"
    dims = tuple(constant_tensor(m["c"]).shape.numpy())
    lead = len(dims) - len(columns)
    if not keeps_shape(m.node("reshape").outputs[0], dims) or any(dim != 1 for dim in dims[: max(lead, 0)]):
        return "the constant differs from row to row"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Add, then reshape."""
    columns = _columns(m)
    assert columns is not None
    c, reshape = m.array("c"), m.node("reshape")
    c = c.reshape(c.shape[max(c.ndim - len(columns), 0) :])
    bias = new.const(np.broadcast_to(c, columns).reshape(-1), m["c"])
    product = m.node("product").outputs[0]
    return new.op(
        "Reshape", new.op("Add", product, bias), m["target"], attributes=reshape.attributes, like=reshape
    )


def _columns(m: Match) -> tuple[int, ...] | None:
    """Return the last dims after the Reshape that together are the columns before it, two or more."""
    matrix, dims = known_dims(m.node("product").outputs[0]), known_dims(m.node("reshape").outputs[0])
    if not matrix or matrix[-1] is None or dims is None:
        return None
    for count in range(2, len(dims) + 1):
        columns = [dim for dim in dims[-count:] if dim is not None]
        if len(columns) == count and dims[-1] != matrix[-1] and math.prod(columns) == matrix[-1]:
            return tuple(columns)
    return None


RULE = Rule(
    "hoist_bias_over_reshape",
    op(
        "Add",
        op(
            "Reshape",
            any_of(
                op("MatMul", var("x"), const("w"), name="product", shared=True),
                op("Gemm", var("x"), const("w"), maybe(const("b")), name="product", shared=True),
            ),
            var("target"),
            name="reshape",
        ),
        const("c"),
    ),
    replace,
    guard,
)
