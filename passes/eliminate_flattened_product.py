"""Multiply a tensor with a matrix as it is, without making it a matrix first.

x: float[b, s, k] ─ Reshape([-1, k]) ─ Gemm(w, c) ─ Reshape([b, s, n]) ─ op   ⇒   x ─ MatMul(w) ─ + c ─ op

MatMul takes tensors of any rank. The dims before the last must be the same ones before and after. As fast on
onnxruntime (which itself makes a Gemm between two Reshapes of it where the dims are numbers), and the sum can
be fused with what follows.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import same_dim

_NUMPY_BROADCAST = 7


def guard(m: Match) -> str | None:
    """Keep out of other products, and of dims that are not surely the same."""
    product = m.node("product")
    plain = {"transA": 0.0, "transB": 0.0, "alpha": 1.0, "beta": 1.0}
    for name, value in plain.items():
        attribute = product.attributes.get(name)
        if attribute is not None and (attribute.is_ref() or attribute.value != value):
            return "the product transposes or scales"
    if m.opset < _NUMPY_BROADCAST:
        return "sums do not broadcast before opset 7"
    weight, bias = static_shape(m["w"]), m.get("c")
    if weight is None or len(weight) != 2 or rank(product.inputs[0]) != 2:
        return "the product is not known to be a matrix"
    if bias is not None and static_shape(bias) not in {(), (1,), (weight[1],), (1, 1), (1, weight[1])}:
        return "the bias is not one number for each column"
    return None if _same_rows(m["x"], m.root.outputs[0], weight) else "the dims may differ"


def replace(m: Match, new: Builder) -> ir.Value:
    """Multiply, and add the bias."""
    product = new.op("MatMul", m["x"], m["w"], like=m.node("product"))
    bias = m.get("c")
    return product if bias is None else new.op("Add", product, bias)


def _same_rows(x: ir.Value, y: ir.Value, weight: tuple[int, ...]) -> bool:
    """Whether x is [..., k] and y [..., n] with the same dims in front, each a number or a named symbol."""
    if x.shape is None or y.shape is None or x.shape.rank() != y.shape.rank() or x.shape.rank() < 2:
        return False
    last = x.shape.rank() - 1
    return (x.shape[last], y.shape[last]) == weight and all(same_dim(x, i, y, i) for i in range(last))


_ROWS = op(("Reshape", "Flatten"), var("x"), maybe(var("rows")), name="rows", shared=True)

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
