"""Compute once what two pieces of arithmetic on shapes both compute, however they are written.

Shape(x: [batch, n])                 ─ Gather(0) ─ a        Shape(x) ─ Gather(0) ─┬ a
Shape(Relu(MatMul(x, w)): [batch, m]) ─ Gather(0) ─ b   ⇒                         └ b

Both are worked out in symbols; equal expressions over the same dims are the same number.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from fuseonnx.analysis.elements import ON_SHAPES
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.graph import bodies_of, detach, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._sameness import can_replace, replace_value

_NAME = "merge_equal_shapes"


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal lists of dims into the first of them."""
    for graph in top_graphs(model):
        _merge_in(graph, {}, journal)


def _merge_in(graph: ir.Graph, first: dict[Hashable, ir.Node], journal: Journal) -> None:
    """Merge those of a graph, and of its bodies, which see what was computed before them."""
    own = []
    for node in graph:
        for body in bodies_of(node):
            _merge_in(body, first, journal)
        key = _key(node)
        if key is None:
            continue
        kept, at = first.get(key), node.outputs[0].name or ""
        if kept is None:
            first[key] = node
            own.append(key)
        elif can_replace(node, kept) and journal.admits(_NAME, at):
            replace_value(node.outputs[0], kept.outputs[0])
            detach(node)
            journal.record(_NAME, at)
    for key in own:
        del first[key]


def _key(node: ir.Node) -> Hashable | None:
    """Return what makes the result of a node the same as another's, None if that is not known in symbols."""
    if node.domain or node.op_type not in ON_SHAPES:
        return None
    result = node.outputs[0]
    elements = elements_of(result)
    if elements is None or integers_of(result) is not None:
        return None
    return result.dtype, dims_of(result), elements


RULE = GraphPass(_NAME, run)
