"""Let Attention share the heads of keys and values among groups of queries, instead of repeating them.

k [B, G, L, D] ─ Unsqueeze [B, G, 1, L, D] ─ Expand [B, G, R, L, D] ─ Reshape [B, G·R, L, D] ─┐
v likewise ───────────────────────────────────────────────────────────────────────────────────┴ Attention
   ⇒   Attention(q, k, v)

Query h reads head h // R in both. Source: https://onnx.ai/onnx/operators/onnx__Attention.html.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Op, maybe, op, var
from fuseonnx.core.rule import Match, Rule


def _repeated(name: str) -> Op:
    alone = op("Unsqueeze", var(name), var(f"{name} axes"), name=f"{name} unsqueeze", shared=True)
    spread = op("Expand", alone, var(f"{name} sizes"), name=f"{name} expand", shared=True)
    return op("Reshape", spread, var(f"{name} target"), name=f"{name} join", shared=True)


def guard(m: Match) -> str | None:
    """Keep out unless keys and values repeat each head as often, and there are as many queries."""
    queries = dims_of(m["q"])
    times = [_times(m, name) for name in ("k", "v")]
    if None in times or times[0] != times[1]:
        return "keys and values do not repeat each head as often"
    keys = dims_of(m.node("k join").outputs[0])
    if queries is None or keys is None or len(queries) != 4 or queries[1] != keys[1]:
        return "there are not as many heads of queries"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Read the heads as they are."""
    return new.op("Attention", m["q"], m["k"], m["v"], m.get("mask"), attributes=m.root.attributes)


def _times(m: Match, name: str) -> int | None:
    """Return how often [B, G·R, L, D] holds each head of [B, G, L, D] side by side; None if it does not."""
    heads, spread, joined = (
        dims_of(value)
        for value in (m[name], m.node(f"{name} expand").outputs[0], m.node(f"{name} join").outputs[0])
    )
    if heads is None or spread is None or joined is None or integers_of(m[f"{name} axes"]) != [2]:
        return None
    if (len(heads), len(spread), len(joined)) != (4, 5, 4):
        return None
    groups, times = heads[1], spread[2]
    if not isinstance(groups, int) or not isinstance(times, int):
        return None
    is_repeat = spread == (*heads[:2], times, *heads[2:])
    return times if is_repeat and joined == (heads[0], groups * times, *heads[2:]) else None


RULE = Rule(
    "eliminate_repeated_heads",
    op("Attention", var("q"), _repeated("k"), _repeated("v"), maybe(var("mask"))),
    replace,
    guard,
)
