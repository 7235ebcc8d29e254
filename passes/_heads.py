"""Shared by the rewrites of attention: operands whose last axis is split into heads, which then go first."""

from __future__ import annotations

from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.pattern import Op, op, var
from fuseonnx.core.rule import Match

SWAP = (0, 2, 1, 3)
"""The order of axes that takes [batch, positions, heads, size] to [batch, heads, positions, size]."""


def split_heads(name: str) -> Op:
    """Match the split operand, and capture what it was under `name`."""
    split = op("Reshape", var(name), var(f"{name} target"), name=f"{name} split", shared=True)
    return op("Transpose", split, name=f"{name} turn", shared=True)


def heads_of(m: Match, name: str) -> tuple[int, int] | None:
    """Return number and size of the heads of [B, S, H·D] that becomes [B, H, S, D]; None if it does not."""
    perm = m.node(f"{name} turn").attributes.get_ints("perm")
    before, after = dims_of(m[name]), dims_of(m.node(f"{name} split").outputs[0])
    if perm is None or tuple(perm) != SWAP or before is None or after is None:
        return None
    if len(before) != 3 or len(after) != 4 or before[:2] != after[:2]:
        return None
    heads, size = after[2:]
    if not isinstance(heads, int) or not isinstance(size, int) or before[2] != heads * size:
        return None
    return heads, size
