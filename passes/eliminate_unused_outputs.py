"""Drop the outputs of a node that nothing uses, where the operator can go without.

If(c) ─ a, b (unused)                    ⇒   If(c) ─ a                 and what its branches compute for b
LSTM(x, w, r) ─ y (unused), h, c (unused)   ⇒   LSTM(x, w, r) ─ "", h

The stacked results of a Loop and the optional outputs of the recurrent operators, MaxPool, Dropout,
LayerNormalization and Unique go too. Those of BatchNormalization stay: before opset 14 they mean training.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import nodes_in, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import without_outputs

_NAME = "eliminate_unused_outputs"
_FIRST_OPTIONAL = {
    "LSTM": 0,
    "GRU": 0,
    "RNN": 0,
    "MaxPool": 1,
    "Dropout": 1,
    "LayerNormalization": 1,
    "Unique": 1,
}
_WITH_BODIES = ("If", "Loop")


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each node that has outputs to spare."""
    for top in top_graphs(model):
        for node in list(nodes_in(top)):
            if node.op_type in _WITH_BODIES or node.op_type in _FIRST_OPTIONAL:
                _drop_from(node, journal)


def _drop_from(node: ir.Node, journal: Journal) -> None:
    dropped = [] if node.domain else _droppable(node)
    at = node.outputs[dropped[0]].name or node.name or "" if dropped else ""
    if not dropped or len(dropped) == len(node.outputs) or not journal.admits(_NAME, at):
        return
    if node.op_type in _WITH_BODIES:
        without_outputs(node, dropped)
    else:
        for index in dropped:
            node.outputs[index].name = ""
        node.resize_outputs(1 + max(i for i, output in enumerate(node.outputs) if output.name))
    journal.record(_NAME, at)


def _droppable(node: ir.Node) -> list[int]:
    """Return the outputs that are there without use, and that the operator does not insist on."""
    first = _FIRST_OPTIONAL.get(node.op_type, 0)
    if node.op_type == "Loop":
        first = len(node.inputs) - 2
    return [
        index
        for index, output in enumerate(node.outputs)
        if index >= first
        and (output.name or node.op_type in _WITH_BODIES)
        and not output.uses()
        and not output.is_graph_output()
    ]


RULE = GraphPass(_NAME, run)
