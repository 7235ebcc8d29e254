"""Read one output of an If or a Loop where another one always has the same value.

a, b = If(c, [r, r], [Neg(x), Neg(x)])   ⇒   a for a and b
a, b = Loop(..., [r, r])                 ⇒   a for a and b

Two values carried by a Loop are the same if they start the same too.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import bodies_of, nodes_in, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._sameness import node_key, replace_value

_NAME = "eliminate_repeated_outputs"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each If and Loop with several outputs."""
    for top in top_graphs(model):
        for node in nodes_in(top):
            if node.op_type in ("If", "Loop") and not node.domain and len(node.outputs) > 1:
                _merge_outputs(node, journal)


def _merge_outputs(node: ir.Node, journal: Journal) -> None:
    for index, output in enumerate(node.outputs):
        if not output.uses() and not output.is_graph_output():
            continue
        at = output.name or ""
        twins = (other for i, other in enumerate(node.outputs[:index]) if _are_same(node, i, index))
        twin = next(twins, None)
        if twin is None or (output.is_graph_output() and twin.is_graph_output()):
            continue
        if journal.admits(_NAME, at):
            replace_value(output, twin)
            journal.record(_NAME, at)


def _are_same(node: ir.Node, first: int, second: int) -> bool:
    if node.op_type == "Loop":
        carried = len(node.inputs) - 2
        if (first < carried) != (second < carried):
            return False
        if second < carried and node.inputs[2 + first] is not node.inputs[2 + second]:
            return False
    for body in bodies_of(node):
        offset = len(body.outputs) - len(node.outputs)
        if not _is_same_value(body.outputs[offset + first], body.outputs[offset + second]):
            return False
    return True


def _is_same_value(first: ir.Value, second: ir.Value) -> bool:
    nodes = first.producer(), second.producer()
    if nodes[0] is None or nodes[1] is None or first.index() != second.index():
        return False
    key = node_key(nodes[0])
    return key is not None and key == node_key(nodes[1])


RULE = GraphPass(_NAME, run)
