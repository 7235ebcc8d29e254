"""Merge two linear operators in a row, with nothing between them but a bias or a factor, into one.

    x ─ Conv 3×3 (w₁, b₁) ─ Conv 1×1 (w₂, b₂)   ⇒   x ─ Conv 3×3 (w₂·w₁, w₂·b₁ + b₂)
    x ─ MatMul (A) ─ + a ─ MatMul (B)           ⇒   x ─ MatMul (A·B) ─ + a·B

So for Conv, of which one of the two is 1×1, and for MatMul and Gemm. Keeps out where the one operator would
multiply more (a bottleneck, a depthwise Conv before a 1×1), and where the padding of the second Conv stands
for zeros that a bias of the first would change.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._branches import (
    WEIGHTED,
    Branch,
    branch_to,
    build,
    channels_and_axes,
    linear_of,
    window_of,
)


def guard(m: Match) -> str | None:
    """Keep out unless one operator does the work of both and costs no more."""
    branch = _chain(m)
    if branch is None:
        return ""
    found = window_of(branch, *channels_and_axes(branch.steps[0]))
    if isinstance(found, str):
        return found
    window, cost = found
    return "one operator would multiply more" if window.cost > cost else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the one operator."""
    branch = _chain(m)
    assert branch is not None
    linear = linear_of(branch, *channels_and_axes(branch.steps[0]))
    ends = branch.steps[0], branch.steps[-1]
    like = next((step for step in ends if step.root.op_type == "Gemm"), ends[-1])
    return build(linear, branch.start, like, new)


def _chain(m: Match) -> Branch | None:
    """Return the root and what leads to it from the nearest operator with weights, or None."""
    before = branch_to(m["x"], m.root.graph, m.opset).steps
    nearest = [index for index, step in enumerate(before) if step.root.op_type in WEIGHTED][-1:]
    if not nearest:
        return None
    steps = before[nearest[0] :]
    return Branch(steps[0]["x"], (*steps, m))


RULE = Rule(
    "merge_linear_chain",
    op(tuple(sorted(WEIGHTED)), var("x"), const("w"), maybe(const("b"))),
    replace,
    guard,
)
