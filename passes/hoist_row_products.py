"""Multiply all rows that a Loop takes one by one with a weight at once, before it.

Loop(50, body: i ↦ MatMul(Gather(x, i), w))   ⇒   p = MatMul(x, w), Loop(50, body: i ↦ Gather(p, i))

So the input of a recurrent layer is projected in one large product. A constant added to each row goes the
same way.

Keeps out unless it is known that there are as many trips as x has rows: no row is then read that is not
there, and none multiplied for nothing.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, batch 1): Keras GRU over 50 steps takes 0.95 of the time,
SimpleRNN 0.90.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of
from fuseonnx.core.graph import detach, graphs_in, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import producer, stand_in
from fuseonnx.passes._loops import Repetition, may_move_out, move_out, repetitions_in, runs, source_of

_NAME = "hoist_row_products"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each Loop of the main graph and of the bodies in it."""
    names = Names(model)
    for loop in repetitions_in(model.graph):
        trips = _trips(loop)
        for node in list(loop.body) if trips else ():
            at = node.outputs[0].name or ""
            gather = _row_of(node, loop, trips)
            if gather is not None and journal.admits(_NAME, at):
                _hoist(node, gather, loop, names)
                journal.record(_NAME, at)


def _trips(loop: Repetition) -> int:
    """Return how many trips a Loop makes, 0 if that is not known."""
    if loop.node.op_type != "Loop" or rank(loop.body.inputs[0]) or not runs(loop):
        return 0
    limit, go, again = loop.node.inputs[0], loop.body.inputs[1], source_of(loop.body.outputs[0])
    return int(array_of(limit).item()) if limit is not None and again is go else 0


def _row_of(node: ir.Node, loop: Repetition, trips: int) -> ir.Node | None:
    """Return the Gather of the row that a node combines with a constant, as it could combine all rows."""
    if node.domain or node.op_type not in ("MatMul", "Add"):
        return None
    first, second = node.inputs
    orders = [(first, second)] if node.op_type == "MatMul" else [(first, second), (second, first)]
    for row, constant in orders:
        gather = producer(row, "Gather")
        if gather is None or constant is None or not may_move_out(constant):
            continue
        size, rows = rank(constant), _rows_taken(gather, loop, trips)
        if size is not None and (size == 2 <= rows if node.op_type == "MatMul" else size < rows):
            return gather
    return None


def _rows_taken(gather: ir.Node, loop: Repetition, trips: int) -> int:
    """Return the rank of what a Gather takes one row of in each trip, each in its turn; 0 if it does not."""
    data, index = gather.inputs
    if data is None or data.shape is None or data.graph in set(graphs_in(loop.body)):
        return 0
    along_first = gather.attributes.get_int("axis", 0) in (0, -len(data.shape))
    return len(data.shape) if along_first and index is loop.body.inputs[0] and data.shape[0] == trips else 0


def _hoist(node: ir.Node, gather: ir.Node, loop: Repetition, names: Names) -> None:
    """Combine all rows before the Loop, and gather one of the results in its body."""
    graph, old = loop.node.graph, node.outputs[0]
    assert graph is not None
    for value in node.inputs:
        if value is not None and value.graph is loop.body and value.producer() is None:
            move_out(value, loop, names)
    inputs = [gather.inputs[0] if value is gather.outputs[0] else value for value in node.inputs]
    product = ir.Node("", node.op_type, inputs, name=names.fresh(f"{node.name or old.name}/rows"))
    product.metadata_props.update(node.metadata_props)
    product.outputs[0].name, product.outputs[0].type = product.name, old.type
    graph.insert_before(loop.node, product)
    row = ir.Node("", "Gather", (product.outputs[0], gather.inputs[1]), [ir.AttrInt64("axis", 0)])
    row.name = names.fresh(f"{old.name}/Gather")
    loop.body.insert_before(node, row)
    stand_in(row.outputs[0], old)
    detach(node)
    remove_if_dead(gather, {})


RULE = GraphPass(_NAME, run)
