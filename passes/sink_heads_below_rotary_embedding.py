"""Rotate positions before the heads are split, so that Attention may split them itself.

[B, S, H·D] ─ Reshape [B, S, H, D] ─ Transpose ─ RotaryEmbedding
   ⇒   RotaryEmbedding(num_heads = H) ─ Reshape [B, S, H, D] ─ Transpose

Source: https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html, which takes both layouts.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._heads import heads_of, split_heads


def guard(m: Match) -> str | None:
    """Keep out unless the number of heads is known."""
    if heads_of(m, "x") is None:
        return "it is not made by splitting the last axis into heads"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Rotate, split, turn."""
    heads, size = heads_of(m, "x") or (0, 0)
    rotated = new.op(
        "RotaryEmbedding",
        m["x"],
        m["cos"],
        m["sin"],
        m.get("positions"),
        attributes={**m.root.attributes, "num_heads": heads},
    )
    split = new.op(
        "Reshape", rotated, new.const(np.array([0, 0, heads, size], np.int64)), like=m.node("x split")
    )
    return new.op("Transpose", split, attributes=m.node("x turn").attributes, like=m.node("x turn"))


RULE = Rule(
    "sink_heads_below_rotary_embedding",
    op("RotaryEmbedding", split_heads("x"), var("cos"), var("sin"), maybe(var("positions"))),
    replace,
    guard,
)
