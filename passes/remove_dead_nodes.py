"""Remove nodes whose outputs nothing uses, and the local functions that nothing calls.

x ─┬ op ─ (unused)   ⇒   x ─ op2
   └ op2
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import all_graphs, nodes_in, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass

_NAME = "remove_dead_nodes"


def run(model: ir.Model, journal: Journal) -> None:
    """Remove dead nodes from the last to the first, then the functions left without a caller."""
    for graph in all_graphs(model):
        for node in reversed(graph):
            dead = not any(output.uses() or output.is_graph_output() for output in node.outputs)
            at = node.outputs[0].name if node.outputs else node.name
            if dead and journal.admits(_NAME, at or ""):
                remove_if_dead(node, {})
                journal.record(_NAME, at or "")
    for identifier in _uncalled(model):
        name = "::".join(filter(None, identifier))
        if journal.admits(_NAME, name):
            del model.functions[identifier]
            journal.record(_NAME, name)


def _uncalled(model: ir.Model) -> list[ir.OperatorIdentifier]:
    called: set[ir.OperatorIdentifier] = set()
    pending = [model.graph]
    while pending:
        for node in nodes_in(pending.pop()):
            identifier = node.op_identifier()
            if identifier in model.functions and identifier not in called:
                called.add(identifier)
                pending.append(model.functions[identifier].graph)
    return [identifier for identifier in model.functions if identifier not in called]


RULE = GraphPass(_NAME, run)
