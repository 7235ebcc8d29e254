"""Swap the branches of an If instead of negating its condition.

If(Not(c), then_branch=a, else_branch=b)   ⇒   If(c, then_branch=b, else_branch=a)
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.graph import all_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import swap

_NAME = "swap_negated_if"


def run(model: ir.Model, journal: Journal) -> None:
    """Swap in place; the Not dies if nothing else uses it."""
    for graph in all_graphs(model):
        for node in graph:
            condition = _negated(node)
            at = node.outputs[0].name or ""
            if condition is not None and journal.admits(_NAME, at):
                node.replace_input_with(0, condition)
                swap(node)
                journal.record(_NAME, at)


def _negated(node: ir.Node) -> ir.Value | None:
    """Return c if the node is If(Not(c))."""
    if node.op_type != "If" or node.domain or node.inputs[0] is None:
        return None
    negation = node.inputs[0].producer()
    return negation.inputs[0] if negation and negation.op_type == "Not" and not negation.domain else None


RULE = GraphPass(_NAME, run)
