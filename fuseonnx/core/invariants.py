"""What must hold of a graph between any two steps."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import all_graphs, bodies_of, top_graphs

UNDEFINED = "fuseonnx.undefined"
"""Key in `value.meta` of a value that the IR cannot define: a sparse initializer."""


def check(model: ir.Model) -> str | None:
    """Return what is broken, or None.

    Checked: value names are unique in each graph, every initializer has data, and every value that a node or
    a graph output reads is defined before it in the same graph or in one around it, or is marked `UNDEFINED`.
    """
    for graph in all_graphs(model):
        names = [value.name for node in graph for value in node.outputs if value.name]
        names += [value.name for value in graph.inputs if value.name]
        names += [
            value.name for value in graph.initializers.values() if value.name and not value.is_graph_input()
        ]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            return f"'{twice}' is defined twice"
        for value in graph.initializers.values():
            if value.const_value is None:
                return f"the initializer '{value.name}' has no data"
    for top in top_graphs(model):
        broken = _check_order(top, set())
        if broken is not None:
            return broken
    return None


def _check_order(graph: ir.Graph, defined: set[ir.Value]) -> str | None:
    local = {*graph.inputs, *graph.initializers.values()}
    defined |= local
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in defined and UNDEFINED not in value.meta:
                return f"'{node.name}' reads '{value.name}' before it is defined"
        for body in bodies_of(node):
            broken = _check_order(body, defined)
            if broken is not None:
                return broken
        local.update(node.outputs)
        defined.update(node.outputs)
    for output in graph.outputs:
        if output not in defined and UNDEFINED not in output.meta:
            return f"nothing defines the graph output '{output.name}'"
    defined -= local
    return None
