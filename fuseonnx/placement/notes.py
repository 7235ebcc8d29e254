"""What the reader of a placement should know: guessed sizes, pins that cannot be obeyed, traps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from fuseonnx.analysis.stats import assumed_shapes
from fuseonnx.errors import OptionError
from fuseonnx.placement.assign import Decision, Device
from fuseonnx.placement.copies import copies_of
from fuseonnx.placement.facts import BATCH
from fuseonnx.placement.graph import Graph, Value
from fuseonnx.placement.report import label


def notes_on(
    graph: Graph,
    decisions: Sequence[Decision],
    devices: Sequence[Device],
    pinned: Mapping[int, Device],
    model: str,
) -> Iterator[str]:
    """Yield the notes on a placement of the nodes of `graph`.

    Raises:
        OptionError: because of pins, an initializer that the caller may override is read on both devices.
    """
    yield from _disobeyed(graph, decisions, devices, pinned)
    yield from _left_inside(graph, decisions, devices)
    yield from _divided_defaults(graph, devices, pinned, model)
    unknown = [copy.value for copy in copies_of(graph, devices) if not _is_sized(graph.values[copy.value])]
    if unknown:
        yield f"unknown dimensions of values that are copied count as 1: {', '.join(unknown)}"


def notes_on_inputs(model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield which sizes are assumed for the dynamic inputs of `model`."""
    shapes = assumed_shapes(model, input_shapes)
    for value in model.graph.inputs:
        shape = shapes.get(value.name or "")
        if shape is None or value.name in input_shapes or value.shape is None or value.shape.is_static():
            continue
        counted = f"{value.name} is counted as {list(shape)}"
        if any(value.shape.is_dynamic(axis) for axis in range(len(shape)) if axis != BATCH):
            counted += ", and work that depends on more than its batch stays where onnxruntime puts it"
        yield f"{counted}; --input-shape {value.name}=... counts another size"


def _left_inside(graph: Graph, decisions: Sequence[Decision], devices: Sequence[Device]) -> Iterator[str]:
    holders: dict[str, list[str]] = defaultdict(list)
    for node, decision, device in zip(graph.nodes, decisions, devices, strict=True):
        if decision.left and device == "gpu":
            holders[", ".join(decision.left)].append(label(node))
    for operators, names in holders.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield (
            f"{operators} inside {names[0]}{more}: onnxruntime has no kernel on the GPU and runs it on the"
            " CPU; the copies that takes are not counted"
        )


def _is_sized(value: Value) -> bool:
    return value.dims is not None and None not in value.dims


def _disobeyed(
    graph: Graph, decisions: Sequence[Decision], devices: Sequence[Device], pinned: Mapping[int, Device]
) -> Iterator[str]:
    for index, device in pinned.items():
        if devices[index] != device and not graph.nodes[index].is_constant:
            node = graph.nodes[index]
            reason = decisions[index].reason or "the CPU has no kernel"
            yield f"{label(node)} cannot be pinned to the {device.upper()}: {reason}"


def _divided_defaults(
    graph: Graph, devices: Sequence[Device], pinned: Mapping[int, Device], model: str
) -> Iterator[str]:
    """onnxruntime gives what the caller feeds to one device only, and the other computes with the default."""
    for value in graph.values.values():
        users = graph.users.get(value.name, ())
        if not (value.is_initializer and value.is_input) or len({devices[user] for user in users}) < 2:
            continue
        if not pinned.keys().isdisjoint(users):
            raise OptionError(
                f"{model}: the nodes that read input '{value.name}' have to be pinned to one device, or"
                " onnxruntime gives some of them its default even where it is fed"
            )
        yield (
            f"do not feed input '{value.name}': nodes on both devices read it, and onnxruntime would give"
            " some of them its default"
        )
