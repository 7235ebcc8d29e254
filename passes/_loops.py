"""Shared by the rewrites of Loop and Scan: what they carry from trip to trip, and whether they run at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import bodies_of, detach, nodes_in, opset_of, remove_if_dead
from fuseonnx.passes._ifs import producer, without_outputs

_SCAN_OF_BATCHES_BEFORE = 9
EXACT_BELOW = 1 << 23
"""Numbers below this one, and the sums of two of them, are exact in each of `_COUNTING`."""
_COUNTING = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)


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
    """Return s if a state of a Loop is s in its first trip and one more in each that follows, else None."""
    initial, formal, _ = repetition.states[index]
    for term, step in _terms(repetition.result(index)):
        if step == 1 and source_of(term) is formal:
            return _integer(initial)
    return None


def distance_from_trip(value: ir.Value, repetition: Repetition) -> int | None:
    """Return d if a number is that of the trip plus d in every trip of a Loop, None if that is unknown."""
    value = source_of(value)
    if value is repetition.body.inputs[0]:
        return 0
    for index, state in enumerate(repetition.states):
        if value is state.formal:
            return counts_from(repetition, index)
    if value.dtype not in _COUNTING:
        return None
    cast = producer(value, "Cast")
    for term, step in [(cast.inputs[0], 0)] if cast is not None else _terms(value):
        distance = None if term is None else distance_from_trip(term, repetition)
        if distance is not None and abs(distance + step) < EXACT_BELOW:
            return distance + step
    return None


def _terms(value: ir.Value) -> Iterator[tuple[ir.Value, int]]:
    """Yield x and 7 for Add(x, 7) or Add(7, x)."""
    add = producer(source_of(value), "Add")
    if add is not None:
        for term, constant in (add.inputs, reversed(add.inputs)):
            step = _integer(constant)
            if term is not None and step is not None:
                yield term, step


def _integer(value: ir.Value | None) -> int | None:
    """Return the one integer that a constant of no dims holds."""
    if value is None or not is_const(value) or value.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        return None
    array = array_of(value)
    return None if array.shape else int(array)


def without_states(repetition: Repetition, dropped: Collection[int]) -> None:
    """Replace a Loop or Scan by one that carries less; without results, it goes."""
    node, body, first = repetition.node, repetition.body, repetition.first
    dead = [repetition.result(index) for index in dropped]
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
    for result in dead:
        remove_from_body(result, body)


def remove_from_body(result: ir.Value, body: ir.Graph) -> None:
    """Remove what made a result that the body no longer has, as far as nothing else needs it."""
    maker = result.producer()
    if maker is not None and maker.graph is body:
        remove_if_dead(maker, {})


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
