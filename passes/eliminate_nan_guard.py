"""Drop the guard against NaN behind a value that cannot be NaN, such as Softmax of scores that are finite.

p = Softmax(Q·Kᵀ + mask) ─┬─ IsNaN ─ Where(·, 0, p) ─ y   ⇒   Softmax(Q·Kᵀ + mask) ─ y
                          └───────────┘

PyTorch exports attention with it, for rows of scores that are -inf throughout. It goes where the scores are
bounded, whatever is fed: they are computed from integers by way of tables, normalizations, constant weights
and a mask of finite numbers. fuseonnx/analysis/intervals.py has the inequalities; they need the least and the
largest element of each weight in the way. It stays where a float that is fed decides (an image, a mask of
floats), where a mask holds -inf, a weight is not finite, or so large that a product may overflow.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.bounds import ranges_of
from fuseonnx.analysis.intervals import is_nan_guard
from fuseonnx.core.constants import constant_tensor, is_const
from fuseonnx.core.graph import graphs_in, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._dims import keeps_shape
from fuseonnx.passes._sameness import replace_value

_NAME = "eliminate_nan_guard"


def run(model: ir.Model, journal: Journal) -> None:
    """Drop what is proven useless, in the main graph and in the bodies in it."""
    for graph in graphs_in(model.graph):
        guards = {node: value for node in graph if (value := _guarded(node)) is not None}
        finite = ranges_of(list(guards.values()), graph) if guards else {}
        for node, value in guards.items():
            _drop(node, value, journal, finite=value in finite)


def _guarded(node: ir.Node) -> ir.Value | None:
    """Return x of Where(IsNaN(x), other, x) with a constant that leaves the shape of x alone."""
    if not is_nan_guard(node):
        return None
    _, other, value = node.inputs
    if value is None or not is_const(other) or other is None:
        return None
    return value if keeps_shape(value, constant_tensor(other).shape.numpy()) else None


def _drop(node: ir.Node, value: ir.Value, journal: Journal, *, finite: bool) -> None:
    output = node.outputs[0]
    at = output.name or ""
    if not finite:
        journal.decline(_NAME, at, node.op_type, "its input may be NaN")
    elif not _can_stand_in(value, node):
        journal.decline(_NAME, at, node.op_type, "the result is a graph output")
    elif journal.admits(_NAME, at):
        replace_value(output, value)
        remove_if_dead(node, {})
        journal.record(_NAME, at)


def _can_stand_in(value: ir.Value, node: ir.Node) -> bool:
    """Whether a value can take the name of the node's output, if that is a graph output."""
    producer = value.producer()
    is_inside = producer is not None and producer.graph is node.graph
    return not node.outputs[0].is_graph_output() or (is_inside and not value.is_graph_output())


RULE = GraphPass(_NAME, run)
