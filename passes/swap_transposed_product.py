"""Multiply in the other order instead of transposing the product.

Transpose(a) · Transpose(b) ─ Transpose([0, 1, 3, 2])   ⇒   Transpose'(b) · Transpose'(a)

(A·B)ᵀ = Bᵀ·Aᵀ: the operands are transposed already, and only otherwise now. Keras computes the scores of its
MultiHeadAttention as keys times queries, and transposes them. docs/forms.md has the times.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._flip import Perm, compose


def guard(m: Match) -> str | None:
    """Keep out where a Transpose that moves whole rows would become one that moves single numbers."""
    swap, a, b = (_perm(node) for node in (m.root, m.node("a"), m.node("b")))
    if swap is None or a is None or b is None or not len(swap) == len(a) == len(b):
        return "a perm is unknown"
    last = len(swap) - 1
    if swap != (*range(last - 1), last, last - 1):
        return "it does not swap the last two axes"
    before, after = (sum(perm[last] != last for perm in perms) for perms in ((a, b), _swapped(swap, a, b)))
    return None if after <= before else "rows would come apart"


def replace(m: Match, new: Builder) -> ir.Value:
    """Multiply what is transposed otherwise."""
    swap, a, b = (_perm(node) for node in (m.root, m.node("a"), m.node("b")))
    assert swap is not None and a is not None and b is not None
    turned_a, turned_b = _swapped(swap, a, b)
    left = new.op("Transpose", m["y"], attributes={"perm": turned_b}, like=m.node("b"))
    right = new.op("Transpose", m["x"], attributes={"perm": turned_a}, like=m.node("a"))
    return new.op("MatMul", left, right, like=m.node("product"))


def _swapped(swap: Perm, a: Perm, b: Perm) -> tuple[Perm, Perm]:
    return compose(a, swap), compose(b, swap)


def _perm(node: ir.Node) -> Perm | None:
    perm = node.attributes.get("perm")
    return None if perm is None or perm.is_ref() else tuple(perm.as_ints())


RULE = Rule(
    "swap_transposed_product",
    op(
        "Transpose",
        op(
            "MatMul", op("Transpose", var("x"), name="a"), op("Transpose", var("y"), name="b"), name="product"
        ),
    ),
    replace,
    guard,
)
