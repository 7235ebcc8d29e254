"""Turn Constant nodes into initializers, in the main graph and in the bodies of If, Loop and Scan.

    Constant(value) ─ op   ⇒   op, reading the initializer

Local functions, and bodies before IR version 4, cannot hold initializers and keep their Constant nodes;
so do graph outputs.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.constants import constant_tensor, is_const
from fuseonnx.core.graph import graphs_in, takes_initializers
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass

_NAME = "lift_constants"


def run(model: ir.Model, journal: Journal) -> None:
    """Lift every Constant that is no graph output."""
    for graph in graphs_in(model.graph):
        if not takes_initializers(graph, model):
            continue
        for node in graph:
            if (
                node.op_type == "Constant"
                and is_const(node.outputs[0])
                and not node.outputs[0].is_graph_output()
            ):
                _lift(graph, node, journal)


def _lift(graph: ir.Graph, node: ir.Node, journal: Journal) -> None:
    old = node.outputs[0]
    name = old.name or ""
    if not journal.admits(_NAME, name):
        return
    tensor = constant_tensor(old)
    new = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tuple(tensor.shape.numpy())),
        const_value=tensor,
    )
    tensor.name = name
    new.metadata_props.update(old.metadata_props)
    old.replace_all_uses_with(new)
    graph.remove(node)
    graph.register_initializer(new)
    journal.record(_NAME, name)


RULE = GraphPass(_NAME, run)
