"""Fuse attention that is spelled out, where every position sees all others or those before it.

Softmax(Q · Transpose(K) · scale) · V            ⇒   Attention(Q, K, V, scale)
Softmax(Q · Transpose(K) · scale + mask) · V     ⇒   Attention(Q, K, V, scale, is_causal = 1)

with Q, K, V [batch, heads, positions, size] and a mask of 0 up to the diagonal and -3.4e38 or -inf above it.
Source: https://onnx.ai/onnx/operators/onnx__Attention.html, opset 23. On its own it takes 0.97 to 1.03 of the
time on onnxruntime's CPU provider (4 and 12 heads of 64, 16 to 512 positions, one thread); it pays as the
Transposes go, see merge_heads_into_attention. Other masks stay: onnxruntime's Attention makes 0 of a row that
is hidden throughout, where Softmax makes equal weights of it, and it does not broadcast a mask over positions.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import Contents
from fuseonnx.analysis.site import Dims
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._heads import SWAP
from fuseonnx.passes._scalars import factor

_HIDDEN = -1e38
_TURNED = {(0, 1, 3, 2): False, (0, 2, 3, 1): True}
"""Orders of the axes of K, and whether its heads come after the positions."""

_PRODUCT = op("MatMul", var("q"), op("Transpose", var("k"), name="turn", shared=True), name="product")
_SCALED = any_of(op(("Mul", "Div"), _PRODUCT, const("scale"), name="scaling"), _PRODUCT)
_MASK = any_of(
    const("mask"), op("Where", var("visible"), const("shown"), const("hidden"), name="choice", shared=True)
)
_SOFTMAX = op("Softmax", any_of(op("Add", _SCALED, _MASK, name="masked"), _SCALED), name="softmax")


def guard(m: Match) -> str | None:
    """Keep out of other layouts, types and masks."""
    if m.opset < 23 or m["q"].dtype is not ir.DataType.FLOAT:
        return "Attention is there for float32 since opset 23"
    if m.node("softmax").attributes.get_int("axis", -1) not in (-1, 3):
        return "Softmax is not along the positions"
    if tuple(m.node("turn").attributes.get_ints("perm") or ()) not in _TURNED:
        return "the keys are turned in another way"
    q, keys, v = (dims_of(value) for value in (m["q"], m.node("turn").outputs[0], m["v"]))
    if q is None or keys is None or v is None or not len(q) == len(keys) == len(v) == 4:
        return "the operands do not have four axes"
    if not q[:2] == keys[:2] == v[:2] or keys[3] != v[2]:
        return "the operands are broadcast"
    if _scale(m) is None:
        return "the scale is not one positive number"
    if "masked" in m.captures.nodes and not (q[2] == keys[3] and _is_causal(m, (q[2], keys[3]))):
        return "the mask does not hide what comes after a position"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Attention, of keys with the heads first."""
    turn, keys = m.node("turn"), m["k"]
    if _TURNED[tuple(turn.attributes["perm"].as_ints())]:
        keys = new.op("Transpose", keys, attributes={"perm": SWAP}, like=turn)
    attributes = {"scale": _scale(m) or 1.0, "is_causal": int("masked" in m.captures.nodes)}
    return new.op("Attention", m["q"], keys, m["v"], attributes=attributes)


def _scale(m: Match) -> float | None:
    if "scaling" not in m.captures.nodes:
        return 1.0
    scale = factor(m, "scaling", "scale", m.node("product").outputs[0])
    return scale if scale is not None and np.isfinite(scale) and scale > 0 else None


def _is_causal(m: Match, square: Dims) -> bool:
    """Whether the mask is 0 where the position of the key is at most that of the query, and hides the rest."""
    if "choice" not in m.captures.nodes:
        mask = array_of(m["mask"])
        if mask.ndim < 2 or mask.shape[-2:] != square or mask.size != square[0] * square[1]:
            return False
        table = mask.reshape(mask.shape[-2:])
        seen = np.tri(len(table), dtype=bool)
        return bool(np.all(table[seen] == 0) and np.all(table[~seen] <= _HIDDEN))
    shown, hidden = array_of(m["shown"]), array_of(m["hidden"])
    dims = dims_of(m["visible"])
    if shown.size != 1 or hidden.size != 1 or max(shown.ndim, hidden.ndim) > 4 or dims is None:
        return False
    is_one_square = dims == (*(1,) * (len(dims) - 2), *square)
    return (
        is_one_square and shown.item() == 0 and hidden.item() <= _HIDDEN and _counts_up_to_query(m["visible"])
    )


def _counts_up_to_query(visible: ir.Value) -> bool:
    """Whether a comparison is of the position of the key, on the last axis, to that of the query, before it."""
    comparison = visible.producer()
    if comparison is None or comparison.domain or comparison.op_type not in ("LessOrEqual", "GreaterOrEqual"):
        return False
    order = 1 if comparison.op_type == "LessOrEqual" else -1
    contents = Contents()
    key, query = (contents.of(value) for value in comparison.inputs[::order])
    if key is None or query is None or key.start != 0 or query.start != 0:
        return False
    return _ends(key.slopes) == (0, 1) and _ends(query.slopes) == (1, 0)


def _ends(slopes: Dims) -> Dims:
    """Return the last two slopes, those before them being 0."""
    padded = (0, 0, *slopes)
    return () if any(padded[:-2]) else padded[-2:]


RULE = Rule("fuse_attention", op("MatMul", _SOFTMAX, var("v")), replace, guard)
