"""Fuse attention without a mask into onnxruntime's MultiHeadAttention, which never holds all the scores.

q [B, S, H, D] ─ Transpose ─┐
k [B, T, H, D] ─ Transpose ─┴─ MatMul ─ [· scale] ─ Softmax ─┐
v [B, T, H, E] ─ Transpose ──────────────────────────────────┴─ MatMul ─ Transpose ─ [B, S, H, E]
    ⇒   MultiHeadAttention(q, k, v as [B, S, H·D], scale) ─ Reshape [B, S, H, E]

Its kernel on the CPU computes blocks of scores, and Softmax as it goes (Dao et al. 2022, arXiv:2205.14135),
if there is neither mask nor bias. docs/forms.md has the times: it pays from some hundred positions on.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import name_of
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._heads import SWAP
from fuseonnx.passes._scalars import factor

_FEW_KEYS = 256
_PERMS = {"q turn": SWAP, "k turn": (0, 2, 3, 1), "v turn": SWAP}
_PRODUCT = op(
    "MatMul",
    op("Transpose", var("q"), name="q turn", shared=True),
    op("Transpose", var("k"), name="k turn", shared=True),
    name="product",
)
_SCORES = any_of(op(("Mul", "Div"), _PRODUCT, const("scale"), name="scaling"), _PRODUCT)
_WEIGHTED = op(
    "MatMul",
    op("Softmax", _SCORES, name="softmax"),
    op("Transpose", var("v"), name="v turn", shared=True),
    name="weighted",
)


def guard(m: Match) -> str | None:
    """Keep out of other layouts and types, of broadcasts, and of few keys."""
    if m["q"].dtype is not ir.DataType.FLOAT:
        return "it is for float32"
    perms = {name: m.node(name).attributes.get_ints("perm") for name in _PERMS}
    if perms != _PERMS or m.root.attributes.get_ints("perm") != SWAP:
        return "the axes are turned in another way"
    if m.node("softmax").attributes.get_int("axis", -1) not in (-1, 3):
        return "Softmax is not along the keys"
    q, k, v = (dims_of(m[name]) for name in "qkv")
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 4:
        return "the operands are not known to have four axes"
    if any(_heads(m[name]) is None for name in "qkv"):
        return "number and size of the heads are unknown"
    if not q[0] == k[0] == v[0] or k[1] != v[1] or q[2:] != k[2:] or q[2] != v[2]:
        return "the operands are broadcast"
    if isinstance(k[1], int) and k[1] < _FEW_KEYS:
        return "there are few keys"
    return None if _scale(m) is not None else "the scale is not one positive number"


def replace(m: Match, new: Builder) -> ir.Value:
    """Join the heads of the operands, and split those of the result."""
    heads, size = _heads(m["v"]) or (0, 0)
    operands = [_joined(m[name], new) for name in "qkv"]
    attributes = {"num_heads": heads, "scale": _scale(m) or 0.0}
    fused = new.op(
        "MultiHeadAttention",
        *operands,
        attributes=attributes,
        like=m.node("weighted"),
        domain="com.microsoft",
    )
    _tell_shape(fused, m["q"], heads * size)
    return new.op("Reshape", fused, new.const(np.array([0, 0, heads, size])))


def _joined(value: ir.Value, new: Builder) -> ir.Value:
    heads, size = _heads(value) or (0, 0)
    return new.op("Reshape", value, new.const(np.array([0, 0, heads * size])))


def _tell_shape(fused: ir.Value, q: ir.Value, width: int) -> None:
    """Note the shape, which no inference knows, for what comes after it."""
    batch, positions = (dims_of(q) or ())[:2]
    fused.type = ir.TensorType(ir.DataType.FLOAT)
    fused.shape = ir.Shape(
        [dim if isinstance(dim, int) else name_of(dim) for dim in (batch, positions, width)]
    )


def _heads(value: ir.Value) -> tuple[int, int] | None:
    """Return number and size of the heads of [B, S, H, D]; None if they are not known."""
    *_, heads, size = dims_of(value) or (None, None)
    return (heads, size) if isinstance(heads, int) and isinstance(size, int) else None


def _scale(m: Match) -> float | None:
    """Return the scale, None if it is not one positive number: 0 would stand for the default."""
    if "scaling" not in m.captures.nodes:
        return 1.0
    scale = factor(m, "scaling", "scale", m.node("product").outputs[0])
    return scale if scale is not None and math.isfinite(scale) and scale > 0 else None


RULE = Rule("fuse_multi_head_attention", op("Transpose", _WEIGHTED), replace, guard)
