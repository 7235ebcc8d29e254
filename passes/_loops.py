"""Shared by the rewrites of Loop and Scan: what they carry from trip to trip, and whether they run at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import bodies_of, detach, nodes_in, opset_of, remove_if_dead
from fuseonnx.passes._ifs import producer, without_outputs

_SCAN_OF_BATCHES_BEFORE = 9


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
