"""Fuse attention that is spelled out, where every position sees all others or those before it.

Softmax(Q · Transpose(K) · scale) · V            ⇒   Attention(Q, K, V, scale)
Softmax(Q · Transpose(K) · scale + mask) · V     ⇒   Attention(Q, K, V, scale, is_causal = 1)

with Q, K, V [batch, heads, positions, size] and a mask of 0 up to the diagonal and float32's lowest number
above it. Source: https://onnx.ai/onnx/operators/onnx__Attention.html, opset 23. On its own it takes 0.97 to
1.03 of the time on onnxruntime's CPU provider (4 and 12 heads of 64, 16 to 512 positions, one thread), with
the same numbers bit by bit; it pays as the Transposes go, see merge_heads_into_attention. Other masks stay:
where all of a row is hidden, onnxruntime's Attention gives 0, Softmax equal weights or NaN; nor does it
broadcast a mask over the positions. It refuses operands without batch or positions, so that both must be
known not to be 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import Contents
from fuseonnx.analysis.expr import at_least
from fuseonnx.analysis.site import Dims
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._heads import SWAP
from fuseonnx.passes._scalars import factor

_HIDDEN = np.finfo(np.float32).min
"""What onnxruntime's Attention adds to the scores of what comes after a position."""
_TURNED: dict[tuple[int, ...], bool] = {(0, 1, 3, 2): False, (0, 2, 3, 1): True}
"""Orders of the axes of K, and whether its heads come after the positions."""
_ORDER = {"LessOrEqual": 1, "GreaterOrEqual": -1}

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
    reason = _misfit(*(dims_of(value) for value in (m["q"], m.node("turn").outputs[0], m["v"])))
    if reason is not None:
        return reason
    if _scale(m) is None:
        return "the scale is not one positive number"
    return None if _is_open(m) or _is_causal(m) else "the mask does not hide what comes after a position"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Attention, of keys with the heads first."""
    turn, keys = m.node("turn"), m["k"]
    if _TURNED[tuple(turn.attributes["perm"].as_ints())]:
        keys = new.op("Transpose", keys, attributes={"perm": SWAP}, like=turn)
    attributes = {"scale": _scale(m) or 1.0, "is_causal": int(not _is_open(m))}
    return new.op("Attention", m["q"], keys, m["v"], attributes=attributes)


def _misfit(q: Dims | None, keys: Dims | None, v: Dims | None) -> str | None:
    """Return why the dims of the operands of both products are not those of Attention."""
    if q is None or keys is None or v is None or not len(q) == len(keys) == len(v) == 4:
        return "the operands do not have four axes"
    if not q[:2] == keys[:2] == v[:2] or keys[3] != v[2]:
        return "the operands are broadcast"
    if not all(at_least(dim, 1) for dim in (*q, *v)):
        return "onnxruntime's Attention takes no empty operands"
    return None


def _scale(m: Match) -> float | None:
    if "scaling" not in m.captures.nodes:
        return 1.0
    scale = factor(m, "scaling", "scale", m.node("product").outputs[0])
    return scale if scale is not None and np.isfinite(scale) and scale > 0 else None


def _is_open(m: Match) -> bool:
    """Whether there is no mask."""
    return "masked" not in m.captures.nodes


def _is_causal(m: Match) -> bool:
    """Whether the mask is 0 where the key comes no later than the query, and hides the rest."""
    square = (dims_of(m.node("product").outputs[0]) or ())[-2:]
    if "choice" not in m.captures.nodes:
        mask = array_of(m["mask"])
        if mask.ndim not in (2, 3, 4) or mask.shape[-2:] != square or mask.size != len(mask.T) ** 2:
            return False
        causal = np.where(np.tri(len(mask.T), dtype=bool), np.float32(0), _HIDDEN)
        return np.array_equal(mask.reshape(causal.shape), causal)
    shown, hidden = array_of(m["shown"]), array_of(m["hidden"])
    dims = dims_of(m["visible"])
    if shown.size != 1 or hidden.size != 1 or max(shown.ndim, hidden.ndim) > 4 or dims is None:
        return False
    is_one_square = len(dims) <= 4 and dims == (*(1,) * (len(dims) - 2), *square)
    return (
        is_one_square and shown.item() == 0 and hidden.item() == _HIDDEN and _counts_up_to_query(m["visible"])
    )


def _counts_up_to_query(visible: ir.Value) -> bool:
    """Whether it compares the position of the key, on the last axis, to that of the query."""
    comparison = visible.producer()
    order = _ORDER.get(comparison.op_type) if comparison is not None and not comparison.domain else None
    if comparison is None or order is None:
        return False
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
