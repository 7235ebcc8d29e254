"""Write out a Loop whose number of trips is known.

    Loop(2, true, x, body: s ↦ Tanh(s))              ⇒   Tanh(Tanh(x))
    Loop(2, true, x, body: s ↦ Tanh(s), stacking s)   ⇒   and Concat(Unsqueeze(x), Unsqueeze(Tanh(x)))

No trips leave the initial values, and one trip is the body itself. More are written out up to 64 nodes in
all: onnxruntime need not begin each trip, but the file grows with each.

Keeps out of a Loop that ends when its values say so, of stacked results without trips, of optional values,
and, for more than one trip, of random operators, which would begin anew with their seed.

Measured on onnxruntime 1.31.1 (CPU, 1 thread, vectors of 3): 1 to 8 trips take 0.79 to 0.86 of the Loop's
time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import bodies_of, nodes_in, remove_if_dead, takes_initializers, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._copies import copy_of, may_copy, splice, take_out, version_of
from fuseonnx.passes._ifs import producer

_NAME = "unroll_loops"
_MAX_NODES = 64
_AXES_ARE_INPUT_FROM = 13


def run(model: ir.Model, journal: Journal) -> None:
    """Unroll the inner Loops first, over again as long as one makes the trips of another known."""
    names, before = Names(model), -1
    while before < len(journal.applied):
        before = len(journal.applied)
        for loop, top in _loops(model):
            _try(loop, top, model, journal, names)


def _loops(model: ir.Model) -> list[tuple[ir.Node, ir.Graph]]:
    """Return every Loop and the top graph that holds it, each after those in its body."""
    found = [
        (node, top)
        for top in top_graphs(model)
        for node in nodes_in(top)
        if node.op_type == "Loop" and not node.domain
    ]
    return found[::-1]


def _try(loop: ir.Node, top: ir.Graph, model: ir.Model, journal: Journal, names: Names) -> None:
    body = next(bodies_of(loop), None)
    trips = None if body is None else _trips(loop, body)
    if body is None or trips is None:
        return
    at = loop.outputs[0].name or ""
    reason = _keeps_out(loop, body, trips)
    if body.initializers and not (top is model.graph and takes_initializers(_around(loop), model)):
        reason = "what holds the Loop cannot hold the initializers of its body"
    if reason is not None:
        journal.decline(_NAME, at, loop.op_type, reason)
    elif journal.admits(_NAME, at):
        _unroll(loop, body, trips, version_of(top.opset_imports, "") or 1, names)
        journal.record(_NAME, at)


def _trips(loop: ir.Node, body: ir.Graph) -> int | None:
    """Return how often the body of a Loop runs, None if that is not known."""
    if len(loop.inputs) < 2:
        return None
    most, start = loop.inputs[:2]
    if start is not None and is_const(start) and not array_of(start).item():
        return 0
    limit = int(array_of(most).item()) if most is not None and is_const(most) else None
    if limit is not None and limit <= 0:
        return 0
    if (start is not None and not is_const(start)) or (most is not None and limit is None):
        return None
    again = body.outputs[0]
    while (identity := producer(again, "Identity")) is not None and identity.inputs[0] is not None:
        again = identity.inputs[0]
    if limit == 1 or (is_const(again) and not array_of(again).item()):
        return 1
    return limit if is_const(again) or again is body.inputs[1] else None


def _keeps_out(loop: ir.Node, body: ir.Graph, trips: int) -> str | None:
    states = len(loop.inputs) - 2
    if len(body.inputs) != len(loop.inputs) or any(value is None for value in loop.inputs[2:]):
        return "an initial value is absent"
    if any(isinstance(value.type, ir.OptionalType) for value in body.inputs):
        return "an optional value is carried, and what it holds may take its place"
    stacks = len(body.outputs) - 1 - states
    if trips == 0 and any(output.uses() or output.is_graph_output() for output in loop.outputs[states:]):
        return "no trips leave a stacked result without a shape"
    if trips > 1 and trips * (sum(1 for _ in nodes_in(body)) + stacks) > _MAX_NODES:
        return f"{trips} trips come to more than {_MAX_NODES} nodes"
    if trips > 1 and not all(map(is_deterministic, body)):
        return "the body holds a random operator, or one that is not known"
    if not may_copy(body):
        return "a body in the body passes out a value from outside"
    return "the Loop has a device configuration" if loop.device_configurations else None


def _unroll(loop: ir.Node, body: ir.Graph, trips: int, opset: int, names: Names) -> None:
    _compute_results(body)
    _move_initializers(body, _around(loop), names)
    start = _constant(np.bool_(True), body.inputs[1], loop, names)
    nodes, constants, rows = [start], [start], []
    carried = [loop.inputs[1] or start.outputs[0], *loop.inputs[2:]]
    for trip in range(trips):
        number = _constant(np.int64(trip), body.inputs[0], loop, names)
        taken, results = take_out(copy_of(body, names), [number.outputs[0], *carried])
        constants.append(number)
        nodes += [number, *taken]
        rows.append(results[len(carried) :])
        carried = results[: len(carried)]
    stacks = [_stack(values, opset, loop, names) for values in zip(*rows, strict=True)]
    nodes += [node for stack in stacks for node in stack]
    splice(loop, nodes, [*carried[1:], *(stack[-1].outputs[0] for stack in stacks)])
    for constant in constants:
        remove_if_dead(constant, {})


def _around(loop: ir.Node) -> ir.Graph:
    assert loop.graph is not None
    return loop.graph


def _compute_results(body: ir.Graph) -> None:
    """Let a node of the body compute each result that is a constant or comes from outside."""
    for index, value in enumerate(body.outputs):
        node = value.producer()
        if not value.is_graph_input() and (node is None or node.graph is not body):
            passed = ir.Node("", "Identity", (value,), name=f"{value.name}/Identity")
            passed.outputs[0].name = passed.name
            body.outputs[index] = passed.outputs[0]
            body.append(passed)


def _move_initializers(body: ir.Graph, graph: ir.Graph, names: Names) -> None:
    """Move the initializers of a body into the graph around it, where all its copies read them."""
    for name, value in tuple(body.initializers.items()):
        body.initializers.pop(name)
        if not value.is_graph_input():
            value.name = names.fresh(name)
            graph.register_initializer(value)


def _constant(data: np.generic, formal: ir.Value, loop: ir.Node, names: Names) -> ir.Node:
    """Return a Constant that stands for an input of the body, of the rank that the body declares."""
    return _node("Constant", (), loop, names, value=ir.Tensor(np.full((1,) * (rank(formal) or 0), data)))


def _stack(values: Sequence[ir.Value | None], opset: int, loop: ir.Node, names: Names) -> list[ir.Node]:
    """Return the nodes that put one result of each trip together along a new first axis, in their order."""
    if opset >= _AXES_ARE_INPUT_FROM:
        axes = _node("Constant", (), loop, names, value=ir.Tensor(np.array([0])))
        rows = [_node("Unsqueeze", (value, axes.outputs[0]), loop, names) for value in values]
        nodes = [axes, *rows]
    else:
        nodes = rows = [_node("Unsqueeze", (value,), loop, names, axes=[0]) for value in values]
    if len(rows) == 1:
        return nodes
    return [*nodes, _node("Concat", [row.outputs[0] for row in rows], loop, names, axis=0)]


def _node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    loop: ir.Node,
    names: Names,
    **attributes: int | Sequence[int] | ir.TensorProtocol,
) -> ir.Node:
    name = names.fresh(f"{loop.name or loop.outputs[0].name}/{op_type}")
    new = ir.Node("", op_type, inputs, ir.convenience.convert_attributes(attributes), name=name)
    new.outputs[0].name = name
    return new


RULE = GraphPass(_NAME, run)
