"""Multiply a tensor with a matrix as it is, without making it a matrix first.

x: float[b, s, k] ─ Reshape([-1, k]) ─ Gemm(w, c) ─ Reshape([b, s, n]) ─ op   ⇒   x ─ MatMul(w) ─ + c ─ op
x: float[b, s, h, d] ─ Reshape([-1, h·d]) ─ Gemm ─ Reshape([b, s, n]) ─ op    ⇒   x ─ Reshape([b, s, h·d]) ─ …

MatMul takes tensors of any rank. The dims before the last must be the same ones before and after. As fast on
onnxruntime (which itself makes a Gemm between two Reshapes of it where the dims are numbers), and the sum can
be fused with what follows.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, constant_tensor
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import int64s, same_dim
from fuseonnx.passes._dims import known_dims

_NUMPY_BROADCAST = 7


def guard(m: Match) -> str | None:
    """Keep out of other products, and of dims that are not surely the same."""
    product = m.node("product")
    plain = {"transA": 0.0, "alpha": 1.0, "beta": 1.0}
    for name, value in plain.items():
        attribute = product.attributes.get(name)
        if attribute is not None and (attribute.is_ref() or attribute.value != value):
            return "the product scales, or transposes the rows"
    if m.opset < _NUMPY_BROADCAST:
        return "sums do not broadcast before opset 7"
    weight, bias = static_shape(m["w"]), m.get("c")
    if weight is None or len(weight) != 2 or rank(product.inputs[0]) != 2:
        return "the product is not known to be a matrix"
    if _is_transposed(m):
        if len(m["w"].uses()) > 1:
            return "others use the transposed weights"
        weight = weight[::-1]
    if bias is not None and static_shape(bias) not in {(), (1,), (weight[1],), (1, 1), (1, weight[1])}:
        return "the bias is not one number for each column"
    return None if _same_rows(m["x"], m.root.outputs[0], weight) else "the dims may differ"


def replace(m: Match, new: Builder) -> ir.Value:
    """Join the axes of a row, multiply, and add the bias."""
    x, w, bias = m["x"], m["w"], m.get("c")
    if _is_transposed(m):
        w = new.const(np.ascontiguousarray(array_of(w).T), w)
    lead = (rank(m.root.outputs[0]) or 0) - 1
    if rank(x) != lead + 1:
        columns = int(constant_tensor(w).shape.numpy()[0])
        x = new.op("Reshape", x, int64s(new, [*[0] * lead, columns]))
    product = new.op("MatMul", x, w, like=m.node("product"))
    return product if bias is None else new.op("Add", product, bias)


def _is_transposed(m: Match) -> bool:
    return bool(m.node("product").attributes.get_int("transB", 0))


def _same_rows(x: ir.Value, y: ir.Value, weight: tuple[int, ...]) -> bool:
    """Whether x is [..., k], or has k as several axes, and y [..., n] with the same dims in front."""
    before, after = known_dims(x), known_dims(y)
    if before is None or after is None or not 2 <= len(after) <= len(before):
        return False
    lead = len(after) - 1
    row = [dim for dim in before[lead:] if dim is not None]
    if len(row) < len(before) - lead or (math.prod(row), after[lead]) != weight:
        return False
    return all(same_dim(x, i, y, i) for i in range(lead))


_ROWS = op(("Reshape", "Flatten"), var("x"), maybe(var("rows")), shared=True)

RULE = Rule(
    "eliminate_flattened_product",
    op(
        "Reshape",
        any_of(
            op("Gemm", _ROWS, const("w"), maybe(const("c")), name="product"),
            op("MatMul", _ROWS, const("w"), name="product"),
        ),
        var("target"),
    ),
    replace,
    guard,
)
