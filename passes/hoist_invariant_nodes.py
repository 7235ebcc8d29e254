"""Compute before a Loop or Scan what each of its trips would compute anew.

Loop(x, body: s ↦ MatMul(s, Tanh(w)))   ⇒   u = Tanh(w), Loop(x, body: s ↦ MatMul(s, u))

It takes whole chains, from the inner bodies outwards.

Keeps out of what may fail unless there is sure to be a trip, for a Loop of none does not fail; of random
operators; of Expand, Tile and the like, which cost little, and whose results would be held through all trips;
of what onnxruntime folds or fuses where it stands: constants alone, QuantizeLinear and DequantizeLinear.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, 50 trips): a Loop that attends to 20 rows which it projects
takes 0.67 of the time, one that begins with the mean of these rows 0.52, one with a Neg of one row 0.90; with
2 trips it is 0.95, 0.90 and 1.00.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.analysis.shapes import rank, static_shape
from fuseonnx.core.builder import Names
from fuseonnx.core.graph import graphs_in, may_hold_bodies
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import take_unshared_names
from fuseonnx.passes._loops import Repetition, may_move_out, move_out, repetitions_in, runs

_NAME = "hoist_invariant_nodes"
_STAY = frozenset(
    {
        *("Identity", "Constant", "ConstantOfShape", "EyeLike", "Expand", "OneHot", "Range", "Tile"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)
_NEVER_FAIL = frozenset(
    {
        *("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Neg", "Not", "Reciprocal", "Relu", "Round"),
        *("Shape", "Sigmoid", "Sign", "Sin", "Size", "Softplus", "Softsign", "Sqrt", "Tanh"),
    }
)
_NEED_SHAPES = frozenset({"Add", "And", "Gemm", "MatMul", "Mul", "Or", "Sub", "Where"})


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each Loop and Scan of the main graph, the inner ones first: their nodes may go further out."""
    names = Names(model)
    for repetition in repetitions_in(model.graph):
        _hoist_from(repetition, journal, names)


def _hoist_from(repetition: Repetition, journal: Journal, names: Names) -> None:
    """Take out nodes in their order, so that each finds what it reads outside already."""
    inside, certain = set(graphs_in(repetition.body)), runs(repetition)
    for node in repetition.body:
        at = node.outputs[0].name or ""
        if _is_invariant(node, inside) and (certain or _never_fails(node)) and journal.admits(_NAME, at):
            _hoist(node, repetition, names)
            journal.record(_NAME, at)


def _is_invariant(node: ir.Node, inside: set[ir.Graph]) -> bool:
    """Whether a node computes the same in each trip, and not for nothing, of what comes from outside."""
    if node.op_type in _STAY or may_hold_bodies(node) or not is_deterministic(node):
        return False
    if node.device_configurations or any(output.is_graph_output() for output in node.outputs):
        return False
    varying = [value for value in node.inputs if value is not None and not may_move_out(value)]
    return bool(varying) and not any(value.graph in inside for value in varying)


def _never_fails(node: ir.Node) -> bool:
    """Whether a node can run on whatever comes: the shapes of its inputs fit, if they need to."""
    if node.op_type == "Transpose":
        return rank(node.inputs[0]) is not None
    if node.op_type in _NEED_SHAPES:
        return all(static_shape(value) is not None for value in (*node.inputs, *node.outputs))
    return node.op_type in _NEVER_FAIL


def _hoist(node: ir.Node, repetition: Repetition, names: Names) -> None:
    """Move a node before the Loop or Scan, along with the constants of the body that it reads."""
    graph = repetition.node.graph
    assert graph is not None
    for value in node.inputs:
        if value is not None and value.graph is repetition.body:
            move_out(value, repetition, names)
    repetition.body.remove(node)
    graph.insert_before(repetition.node, node)
    take_unshared_names(node, names)


RULE = GraphPass(_NAME, run)
