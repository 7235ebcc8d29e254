"""Merge two Ifs on one condition.

a = If(c, p, q)                                a, b = If(c, [p, r(p)], [q, s(q)])
b = If(c, r(a), s(a))                     ⇒

The second may read the first, whose results its branches then find in their own graph. Keeps out if a node
between the two reads the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import bodies_of, detach, graphs_in, nodes_in
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import branches_of, is_if, stand_in, take_unshared_names

_NAME = "merge_ifs"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit the graphs that hold several Ifs: the main graph and the bodies in it."""
    counts: dict[ir.Graph, int] = {}
    for node in nodes_in(model.graph):
        if is_if(node) and node.graph is not None:
            counts[node.graph] = counts.get(node.graph, 0) + 1
    for graph, count in counts.items():
        if count > 1:
            _merge_in(graph, journal, Names(model))


def _merge_in(graph: ir.Graph, journal: Journal, names: Names) -> None:
    open_: dict[ir.Value | None, ir.Node] = {}
    for node in list(graph):
        condition = node.inputs[0] if is_if(node) else None
        first = open_.get(condition) if condition is not None else None
        at = node.outputs[0].name or ""
        latest = node
        if first is not None and journal.admits(_NAME, at):
            latest = _merge(first, node, names)
            journal.record(_NAME, at)
        for closed in {value.producer() for value in _read_by(latest)} & set(open_.values()):
            assert closed is not None
            del open_[closed.inputs[0]]
        if condition is not None:
            open_[condition] = latest


def _read_by(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node and the nodes in its bodies read."""
    yield from filter(None, node.inputs)
    for body in bodies_of(node):
        for inner in nodes_in(body):
            yield from filter(None, inner.inputs)


def _merge(first: ir.Node, second: ir.Node, names: Names) -> ir.Node:
    """Put an If with the outputs of both in the place of the second."""
    graph = second.graph
    assert graph is not None
    attributes = []
    for name, target, source in zip(
        ("then_branch", "else_branch"), branches_of(first), branches_of(second), strict=True
    ):
        inside = set(graphs_in(source))
        for outer, inner in zip(first.outputs, list(target.outputs), strict=True):
            for use in list(outer.uses()):
                if use.node.graph in inside:
                    use.node.replace_input_with(use.idx, inner)
        _pour(source, target, names)
        attributes.append(ir.AttrGraph(name, target))
    first.attributes.clear()
    second.attributes.clear()
    old = [*first.outputs, *second.outputs]
    merged = ir.Node("", "If", second.inputs, attributes, num_outputs=len(old), name=second.name)
    merged.doc_string = second.doc_string or first.doc_string
    merged.metadata_props.update({**first.metadata_props, **second.metadata_props})
    graph.insert_before(second, merged)
    for new, value in zip(merged.outputs, old, strict=True):
        stand_in(new, value)
    detach(first)
    detach(second)
    return merged


def _pour(source: ir.Graph, target: ir.Graph, names: Names) -> None:
    """Move everything from one branch to the end of another, under names that stay unique."""
    _take_names_of_their_own(target, names)
    _take_names_of_their_own(source, names)
    results = list(source.outputs)
    source.outputs.clear()
    for name, value in list(source.initializers.items()):
        source.initializers.pop(name)
        target.register_initializer(value)
    nodes = list(source)
    source.remove(nodes)
    target.extend(nodes)
    target.outputs.extend(results)


def _take_names_of_their_own(branch: ir.Graph, names: Names) -> None:
    """Rename what is in a branch where another body, maybe one inside the other branch, uses the name too."""
    for node in branch:
        take_unshared_names(node, names)
    for name, value in list(branch.initializers.items()):
        value.name = names.unshared(name)


RULE = GraphPass(_NAME, run)
