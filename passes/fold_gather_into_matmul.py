"""Take some of a product's columns by taking them out of its weights.

x ─ MatMul(w: [k, 96]) ─ +b ─ Reshape([-1, 16, 3, 32]) ─┬─ Gather(0, axis=2)
                                                        ├─ Gather(1, axis=2)
                                                        └─ Gather(2, axis=2)
    ⇒   x ─┬─ MatMul(w₀: [k, 32]) ─ +b₀
           ├─ MatMul(w₁) ─ +b₁
           └─ MatMul(w₂) ─ +b₂

So PyTorch exports the packed Q, K and V of its MultiheadAttention. All users of the wide product are such
Gathers, of different columns, so that nothing is computed twice, and no column is copied. docs/forms.md has
the times.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import Array, array_of, constant_tensor, is_const
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._reshaped import dims_of, new_target

_NUMPY_BROADCAST = 7


def guard(m: Match) -> str | None:
    """Keep out unless all that becomes of the product is taken apart so."""
    if m.opset < _NUMPY_BROADCAST:
        return "sums do not broadcast before opset 7"
    w, b = static_shape(m["w"]), m.get("b")
    if w is None or len(w) != 2 or len(m["w"].uses()) > 1:
        return "the weights are no matrix of this product alone"
    if b is not None and static_shape(b) != (w[_columns_axis(m)],):
        return "the bias is not one number for each column"
    if _parts(m) is None or rank(m["i"]) != 0:
        return "the columns are not known to be taken apart"
    if _target(m) is None:
        return "the result's dims are unknown"
    return None if _all_are_picked_once(m) else "others use the product"


def replace(m: Match, new: Builder) -> ir.Value:
    """Multiply with the columns that are picked."""
    old, b, target = m.node("product"), m.get("b"), _target(m)
    assert target is not None
    w = new.const(_picked(m, "w", _columns_axis(m)), m["w"])
    bias = None if b is None else new.const(_picked(m, "b", 0), b)
    if old.op_type == "Gemm":
        product = new.op("Gemm", m["x"], w, bias, attributes=old.attributes)
    else:
        product = new.op("MatMul", m["x"], w)
        product = product if bias is None else new.op("Add", product, bias)
    return new.op("Reshape", product, new.const(target))


def _columns_axis(m: Match) -> int:
    """Return which axis of the weights has the columns of the product."""
    return 0 if m.node("product").attributes.get_int("transB", 0) else 1


def _parts(m: Match) -> tuple[int, tuple[int, ...]] | None:
    """Return the dims into which the Reshape takes the columns, after the place where the Gather picks."""
    dims, matrix = known_dims(m.node("reshape").outputs[0]), known_dims(m.node("product").outputs[0])
    if not dims or not matrix or matrix[-1] is None:
        return None
    axis = m.root.attributes.get_int("axis", 0) % len(dims)
    for first in range(axis, -1, -1):
        parts = tuple(dim for dim in dims[first:] if dim is not None)
        if len(parts) == len(dims) - first and math.prod(parts) == matrix[-1]:
            return axis - first, parts
    return None


def _picked(m: Match, name: str, axis: int) -> Array:
    """Return the columns, along an axis of the weights or of the bias, that the Gather picks."""
    found = _parts(m)
    assert found is not None
    at, parts = found
    numbers = np.arange(math.prod(parts)).reshape(parts).take(int(m.array("i")), axis=at)
    picked: Array = m.array(name).take(numbers.reshape(-1), axis=axis)
    return picked


def _target(m: Match) -> Array | None:
    dims = dims_of(m.root.outputs[0])
    return None if dims is None else new_target(dims)


def _all_are_picked_once(m: Match) -> bool:
    """Whether the wide product has no users but Gathers of single, different indices along one axis."""
    parts = m.node("reshape").outputs[0]
    for name in {"product", "sum"} & m.captures.nodes.keys():
        output = m.node(name).outputs[0]
        if output.is_graph_output() or len(output.uses()) > 1:
            return False
    axis, seen = m.root.attributes.get_int("axis", 0), set()
    for user in parts.consumers():
        index = user.inputs[1] if user.op_type == "Gather" and not user.domain else None
        if index is None or not is_const(index) or constant_tensor(index).shape.rank() != 0:
            return False
        if user.graph is not m.root.graph or user.attributes.get_int("axis", 0) != axis:
            return False
        seen.add(int(array_of(index)))
    return len(seen) == len(parts.uses()) and not parts.is_graph_output()


_PRODUCT = op("MatMul", var("x"), const("w"), name="product", shared=True)

RULE = Rule(
    "fold_gather_into_matmul",
    op(
        "Gather",
        op(
            "Reshape",
            any_of(
                _PRODUCT,
                op("Add", _PRODUCT, const("b"), name="sum", shared=True),
                op("Gemm", var("x"), const("w"), maybe(const("b")), name="product", shared=True),
            ),
            var("target"),
            name="reshape",
            shared=True,
        ),
        const("i"),
    ),
    replace,
    guard,
)
