"""Merge linear branches that read one value and are added into one operator.

    x ─┬ Conv 3×3 ───────────┐
       ├ Conv 1×1 ───────────┤
       ├ BatchNormalization ─┼ + ─   ⇒   x ─ Conv 3×3 ─
       └─────────────────────┘

W·x + V·x = (W + V)·x, where smaller kernels, the identity, BatchNormalization, AveragePool and constant
factors are kernels too, moved to their place in the largest (Ding et al. 2021, RepVGG, arXiv:2101.03697,
section 3.3; Diverse Branch Block, arXiv:2103.13425). A branch may be a chain: x·W + x·A·B, a low-rank
adapter, is x·(W + A·B). At least one branch is a Conv, MatMul or Gemm; other terms of the sum stay. Keeps
out where the one operator would multiply more than its parts.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._branches import (
    Branch,
    branch_to,
    build,
    channels_and_axes,
    is_private,
    linear_of,
    window_of,
)
from fuseonnx.passes._linear import Window, summed, total

_SUMS = frozenset({"Add", "Sum"})


class Merger(NamedTuple):
    """What becomes one operator, and the terms that stay beside it."""

    branches: list[Branch]
    window: Window
    axes: int
    rest: list[ir.Value]


def guard(m: Match) -> str | None:
    """Keep out unless two branches fit into one operator that costs no more."""
    if not _is_sum(m.root):
        return ""
    users = m.root.outputs[0].consumers()
    if len(users) == 1 and _is_sum(users[0]) and is_private(m.root, users[0].graph):
        return ""
    found = _find(m)
    return found if isinstance(found, str) else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the one operator, and add the terms that stay."""
    found = _find(m)
    assert isinstance(found, Merger)
    weighted = [branch.weighted for branch in found.branches]
    first = next(step for step in weighted if step is not None)
    like = next((step for step in weighted if step and step.root.op_type == "Gemm"), first)
    channels = found.window.inputs
    parts = [linear_of(branch, channels, found.axes) for branch in found.branches]
    merged = build(total(parts, found.window), found.branches[0].start, like, new)
    if not found.rest:
        return merged
    if m.root.op_type == "Sum":
        return new.op("Sum", merged, *found.rest)
    rest = found.rest[0]
    for term in found.rest[1:]:
        rest = new.op("Add", rest, term)
    return new.op("Add", merged, rest)


def _is_sum(node: ir.Node) -> bool:
    """Whether a node adds values that the run brings, and broadcasts them as numpy does."""
    return (
        node.op_type in _SUMS
        and not node.domain
        and not {"axis", "broadcast"} & node.attributes.keys()
        and not any(value is None or is_const(value) for value in node.inputs)
    )


def _terms(node: ir.Node) -> list[ir.Value]:
    """Return what a tree of additions adds, in order."""
    terms: list[ir.Value] = []
    for value in node.inputs:
        assert value is not None
        inner = value.producer()
        if inner is not None and _is_sum(inner) and is_private(inner, node.graph):
            terms += _terms(inner)
        else:
            terms.append(value)
    return terms


def _find(m: Match) -> Merger | str:
    """Return what to merge among the terms, or why there is nothing ("" where no two branches meet)."""
    terms = _terms(m.root)
    branches = [branch_to(term, m.root.graph, m.opset) for term in terms]
    by_start: dict[ir.Value, list[int]] = {}
    for index, branch in enumerate(branches):
        by_start.setdefault(branch.start, []).append(index)
    reason = ""
    for indices in by_start.values():
        weighted = next((branches[i].weighted for i in indices if branches[i].weighted), None)
        if len(indices) < 2 or weighted is None:
            continue
        fitting = _fitting([branches[i] for i in indices], *channels_and_axes(weighted))
        if isinstance(fitting, str):
            reason = fitting
            continue
        taken, window = fitting
        kept = {indices[i] for i in taken}
        rest = [term for i, term in enumerate(terms) if i not in kept]
        return Merger([branches[i] for i in sorted(kept)], window, channels_and_axes(weighted)[1], rest)
    return reason


def _fitting(branches: list[Branch], channels: int, axes: int) -> tuple[list[int], Window] | str:
    """Return which branches fit into the most expensive Conv or product, and the window of their sum."""
    reason = ""
    windows: list[tuple[int, Window, int]] = []
    for index, branch in enumerate(branches):
        found = window_of(branch, channels, axes)
        if isinstance(found, str):
            reason = found
        else:
            windows.append((index, *found))
    windows.sort(key=lambda each: (branches[each[0]].weighted is None, -each[1].cost))
    if not windows or branches[windows[0][0]].weighted is None:
        return reason
    (first, whole, so_far), *others = windows
    taken = [first]
    for index, window, cost in others:
        both = summed(whole, window)
        if isinstance(both, str):
            reason = both
        elif both.cost > so_far + cost:
            reason = "one operator would multiply more"
        else:
            whole, so_far = both, so_far + cost
            taken.append(index)
    return (taken, whole) if len(taken) > 1 else reason


RULE = Rule("merge_added_branches", op(("Add", "Sum"), each=var("term")), replace, guard)
