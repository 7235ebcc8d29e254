"""Types and shapes of values, inferred by onnx and noted on the IR's values for rules to read.

They are analysis: saving writes only the types and shapes that the source file declared itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import all_graphs
from fuseonnx.io.proto import weightless_proto

_INFERRED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def annotate(model: ir.Model) -> None:
    """Set `.type` and `.shape` of the values of `model` as far as onnx can infer them.

    What the file declares for the values inside the graph is not believed, because it is often stale: only
    graph inputs, initializers and the outputs of operators that onnx does not know count. Dims named `?` are
    unrelated unknowns.
    """
    proto, _ = weightless_proto(model)
    _forget_stale(proto.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return
    known = {info.name: info for info in _value_infos(inferred.graph)}
    for graph in all_graphs(model):
        for node in graph:
            for value in node.outputs:
                info = known.get(value.name or "")
                if info is not None:
                    _note(value, info)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of a value if every dim is a known number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(value.shape.numpy())


def rank(value: ir.Value | None) -> int | None:
    """Return the rank of a value, or None if it is unknown."""
    return None if value is None or value.shape is None else value.shape.rank()


def _forget_stale(graph: onnx.GraphProto) -> None:
    """Drop every declared type that onnx infers itself, and the dims that Paddle calls `?`."""
    foreign = {name for node in graph.node if node.domain not in _INFERRED_DOMAINS for name in node.output}
    kept = [info for info in graph.value_info if info.name in foreign]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        if output.name not in foreign:
            output.ClearField("type")
    for info in graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if not dim.dim_param.isidentifier() and not dim.HasField("dim_value"):
                dim.ClearField("dim_param")
    for body in _bodies(graph):
        _forget_stale(body)


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _note(value: ir.Value, info: onnx.ValueInfoProto) -> None:
    type_ = ir.serde.deserialize_type_proto_for_type(info.type)
    if type_ is not None:
        value.type = type_
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    if shape is not None:
        value.shape = shape


def _value_infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.output
    for body in _bodies(graph):
        yield from _value_infos(body)
