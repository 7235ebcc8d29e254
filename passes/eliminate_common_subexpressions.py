"""Compute once what is computed twice: nodes with the same operator, attributes and inputs.

    op(x, y) ─ a        op(x, y) ─┬ a
    op(x, y) ─ b   ⇒              └ b

A node in the body of an If, Loop or Scan also reads the equal node that comes before it in a graph around it.
Attributes compare bit by bit, so that -0.0 differs from +0.0. Random operators, operators with bodies and
those of other domains stay apart.

Equal Convs are merged even if a different BatchNormalization follows each, which then cannot be folded: one
Conv and two BatchNormalizations take 0.5 to 1.0 of the time of two Convs (onnxruntime's CPU provider, 1x1 and
3x3, 16 to 256 channels, one thread).
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from fuseonnx.core.graph import bodies_of, detach, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._sameness import can_replace, node_key, replace_value

_NAME = "eliminate_common_subexpressions"


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal nodes into the first of them."""
    for graph in top_graphs(model):
        _merge_in(graph, {}, journal)


def _merge_in(graph: ir.Graph, first: dict[Hashable, ir.Node], journal: Journal) -> None:
    """Merge the nodes of a graph, and of its bodies, which see what was computed before them."""
    own = []
    for node in graph:
        for body in bodies_of(node):
            _merge_in(body, first, journal)
        key = node_key(node)
        if key is None:
            continue
        kept = first.get(key)
        at = node.outputs[0].name or ""
        if kept is None:
            first[key] = node
            own.append(key)
        elif can_replace(node, kept) and journal.admits(_NAME, at):
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                replace_value(old, new)
            detach(node)
            journal.record(_NAME, at)
    for key in own:
        del first[key]


RULE = GraphPass(_NAME, run)
