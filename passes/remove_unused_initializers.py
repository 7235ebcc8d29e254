"""Remove initializers that no node reads.

    w1, w2, op(x, w1)   ⇒   w1, op(x, w1)

One that is also a graph input or a graph output belongs to the model's signature and stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import all_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass

_NAME = "remove_unused_initializers"


def run(model: ir.Model, journal: Journal) -> None:
    """Remove the unused initializers of each graph."""
    for graph in all_graphs(model):
        for name, value in list(graph.initializers.items()):
            in_signature = value.is_graph_input() or value.is_graph_output()
            if not value.uses() and not in_signature and journal.admits(_NAME, name):
                graph.initializers.pop(name)
                journal.record(_NAME, name)


RULE = GraphPass(_NAME, run)
