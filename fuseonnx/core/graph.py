"""Small facts and surgery on IR graphs that the engine and the passes share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx
import onnx_ir as ir

DECLARED = "fuseonnx.declared"
"""Key in `graph.meta`: value name to the (type, shape) that the file declares for it, and that is kept."""

INITIALIZERS_ARE_INPUTS_BEFORE_IR = 4

_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def top_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Yield the main graph and the graph of each local function."""
    yield model.graph
    for function in model.functions.values():
        yield function.graph


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Yield the main graph, the graphs of local functions, and every body inside them."""
    for top in top_graphs(model):
        yield from graphs_in(top)


def graphs_in(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Yield a graph and every body inside it."""
    yield graph
    for node in graph:
        if may_hold_bodies(node):
            for body in bodies_of(node):
                yield from graphs_in(body)


class Place(NamedTuple):
    """A graph, and what new nodes in it must heed.

    Attributes:
        graph: the main graph, the graph of a local function, or a body.
        opset: version of the standard domain in it.
        constant_nodes: whether its constants have to be nodes, because it can hold no initializers.
    """

    graph: ir.Graph
    opset: int
    constant_nodes: bool


def places(model: ir.Model) -> list[Place]:
    """Return every graph of a model, bodies after the graphs around them."""
    return [
        Place(graph, opset_of(top), top is not model.graph or not takes_initializers(graph, model))
        for top in top_graphs(model)
        for graph in graphs_in(top)
    ]


def opset_of(top: ir.Graph) -> int:
    """Return the version of the standard domain in the main graph or the graph of a local function."""
    return top.opset_imports.get("", top.opset_imports.get("ai.onnx", 1))


def nodes_in(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes of a graph, each followed by those of its bodies."""
    for node in graph:
        yield node
        if may_hold_bodies(node):
            for body in bodies_of(node):
                yield from nodes_in(body)


def may_hold_bodies(node: ir.Node) -> bool:
    """Whether looking for bodies in a node is worth it: few operators have any."""
    return node.op_type in _WITH_BODIES or bool(node.domain)


def bodies_of(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that a node holds as attributes (If branches, Loop and Scan bodies)."""
    if not may_hold_bodies(node):
        return
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def takes_initializers(graph: ir.Graph, model: ir.Model) -> bool:
    """Whether the main graph, or a body in it, may hold initializers that are not inputs.

    Before IR version 4 bodies may not; of the main graph's, saving makes inputs.
    """
    return graph is model.graph or model.ir_version >= INITIALIZERS_ARE_INPUTS_BEFORE_IR


def proto_bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds as attributes, where it is not in the IR."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def remove_if_dead(node: ir.Node, survivors: dict[ir.Node, None]) -> None:
    """Remove a node whose outputs nobody uses, and then its producers for which the same now holds.

    Args:
        node: where to start.
        survivors: collects the producers that lost a user and stay.
    """
    pending = [node]
    while pending:
        current = pending.pop()
        if current.graph is None:
            continue
        if any(output.uses() or output.is_graph_output() for output in current.outputs):
            survivors[current] = None
            continue
        survivors.pop(current, None)
        pending.extend(detach(current))


def detach(node: ir.Node) -> list[ir.Node]:
    """Take a node out of its graph, with its bodies; return the producers that lost a user."""
    producers: dict[ir.Node, None] = {}
    for body in bodies_of(node):
        inside = list(body)
        for inner in inside:
            producers.update(dict.fromkeys(detach(inner)))
        for inner in inside:
            producers.pop(inner, None)
    for index, value in enumerate(node.inputs):
        if value is not None:
            producer = value.producer()
            if producer is not None:
                producers[producer] = None
            node.replace_input_with(index, None)
    if node.graph is not None:
        node.graph.remove(node)
    return list(producers)
