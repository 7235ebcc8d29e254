"""Shared by the rewrites of Loop and Scan: what they carry from trip to trip, and whether they run at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import bodies_of, detach, nodes_in, opset_of, remove_if_dead
from fuseonnx.passes._ifs import producer, without_outputs

_SCAN_OF_BATCHES_BEFORE = 9
EXACT_BELOW = 1 << 23
"""Numbers below this one, and the sums of two of them, are exact as float32."""

_EXACT = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)


class State(NamedTuple):
    """A value that is carried from trip to trip: as it begins, as the body gets it, and as it ends."""

    initial: ir.Value | None
    formal: ir.Value
    final: ir.Value


class Repetition(NamedTuple):
    """A Loop or Scan, its body, and what it carries."""

    node: ir.Node
    body: ir.Graph
    states: tuple[State, ...]

    @property
    def first(self) -> int:
        """Number of inputs before the states: the limit and the condition of a Loop."""
        return 2 if self.node.op_type == "Loop" else 0

    def result(self, index: int) -> ir.Value:
        """Return what the body leaves of a state; before it, that of a Loop gives its condition."""
        return self.body.outputs[index + (self.node.op_type == "Loop")]


def repetitions_in(top: ir.Graph) -> list[Repetition]:
    """Return every Loop and Scan in the main graph or in that of a local function, the inner ones first."""
    found = [_repetition(node) for node in nodes_in(top) if _repeats(node, opset_of(top))]
    return [each for each in reversed(found) if each is not None]


def source_of(value: ir.Value) -> ir.Value:
    """Return the value that reaches this one through nothing but Identity."""
    while (identity := producer(value, "Identity")) is not None and identity.inputs[0] is not None:
        value = identity.inputs[0]
    return value


def runs(repetition: Repetition) -> bool:
    """Whether there is at least one trip, whatever the inputs."""
    node, first = repetition.node, repetition.first
    if first:
        limit, start = node.inputs[:first]
        return (limit is None or (is_const(limit) and array_of(limit).item() > 0)) and (
            start is None or (is_const(start) and bool(array_of(start).item()))
        )
    scanned = node.inputs[len(repetition.states) :]
    axes = node.attributes.get_ints("scan_input_axes", [0] * len(scanned))
    shapes = [static_shape(value) for value in scanned]
    return any(shape is not None and shape[axis] > 0 for shape, axis in zip(shapes, axes, strict=True))


def counts_from(repetition: Repetition, index: int) -> int | None:
    """Return with which number a state of a Loop begins that grows by one in each trip, None for another."""
    initial, formal, _ = repetition.states[index]
    add = producer(source_of(repetition.result(index)), "Add")
    start = _integer(initial)
    if add is None or start is None or formal not in map(_source, add.inputs):
        return None
    return start if 1 in map(_integer, add.inputs) else None


def distance_from_trip(value: ir.Value, repetition: Repetition) -> int | None:
    """Return by how much a number is ahead of that of the trip in every trip of a Loop, None if unknown."""
    value = source_of(value)
    if value is repetition.body.inputs[0]:
        return 0
    for index, state in enumerate(repetition.states):
        if value is state.formal:
            return counts_from(repetition, index)
    node = value.producer()
    if node is None or node.domain or node.op_type not in ("Add", "Cast"):
        return None
    steps = [_integer(each) for each in node.inputs]
    ahead = [distance_from_trip(each, repetition) for each in node.inputs if each and not is_const(each)]
    if len(ahead) != 1 or ahead[0] is None or value.dtype not in _EXACT:
        return None
    if node.op_type == "Cast":
        return ahead[0]
    step = steps[0] if steps[1] is None else steps[1]
    return None if step is None or abs(ahead[0] + step) >= EXACT_BELOW else ahead[0] + step


def _integer(value: ir.Value | None) -> int | None:
    """Return the one integer that a constant of no dims holds."""
    if value is None or not is_const(value) or value.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        return None
    array = array_of(value)
    return None if array.shape else int(array)


def _source(value: ir.Value | None) -> ir.Value | None:
    return None if value is None else source_of(value)


def without_states(repetition: Repetition, dropped: Collection[int]) -> None:
    """Replace a Loop or Scan by one that carries less; without results, it goes."""
    node, body, first = repetition.node, repetition.body, repetition.first
    results = [repetition.result(index) for index in dropped]
    if len(dropped) == len(node.outputs):
        detach(node)
        return
    kept = [index for index in range(len(node.inputs)) if index - first not in dropped]
    inputs, formals = [node.inputs[index] for index in kept], [body.inputs[index] for index in kept]
    new = without_outputs(node, dropped)
    for index, value in enumerate(inputs):
        new.replace_input_with(index, value)
    new.resize_inputs(len(inputs))
    body.inputs.clear()
    body.inputs.extend(formals)
    for result in results:
        behind = result.producer()
        if behind is not None and behind.graph is body:
            remove_if_dead(behind, {})


def identity_of(value: ir.Value, names: Names) -> ir.Node:
    """Return an Identity, in no graph yet, that hands on a value under a name of its own."""
    node = ir.Node("", "Identity", (value,), name=names.fresh(f"{value.name}/Identity"))
    new = node.outputs[0]
    new.name, new.type, new.shape = node.name, value.type, value.shape
    return node


def may_move_out(value: ir.Value) -> bool:
    """Whether a value is a constant that lies in the body, and can go out of it, or outside already."""
    return value.producer() is None and is_const(value) and not value.is_graph_output()


def move_out(constant: ir.Value, repetition: Repetition, names: Names) -> None:
    """Move an initializer of the body into the graph around, where the body reads it too."""
    graph = repetition.node.graph
    assert graph is not None and constant.name is not None
    name = names.unshared(constant.name)
    repetition.body.initializers.pop(constant.name)
    constant.name = name
    graph.register_initializer(constant)


def _repeats(node: ir.Node, opset: int) -> bool:
    is_scan = node.op_type == "Scan" and opset >= _SCAN_OF_BATCHES_BEFORE
    return not node.domain and (node.op_type == "Loop" or is_scan)


def _repetition(node: ir.Node) -> Repetition | None:
    """Return what a node carries, None if its body does not fit, or it is placed on a device."""
    body = next(bodies_of(node), None)
    first = 2 if node.op_type == "Loop" else 0
    scanned = node.attributes.get_int("num_scan_inputs", 0)
    if body is None or len(body.inputs) != len(node.inputs) or node.device_configurations:
        return None
    end = len(node.inputs) - scanned
    values = zip(node.inputs[first:end], body.inputs[first:end], node.outputs, strict=False)
    return Repetition(node, body, tuple(State(*each) for each in values))
