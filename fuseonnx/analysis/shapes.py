"""Types and shapes of values, inferred by onnx and noted on the IR's values for rules to read.

They are analysis: saving writes only the types and shapes that the source file declared itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import all_graphs, bodies_of

_INFERRED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MAX_PROPAGATED_BYTES = 1 << 10
_IS_ANNOTATED = "fuseonnx.annotated"


def annotate(model: ir.Model) -> bool:
    """Set `.type` and `.shape` of the values of `model` as far as onnx can infer them.

    What the file declares for the values inside the graph is not believed, because it is often stale: only
    graph inputs, initializers and the outputs of operators that onnx does not know count. Dims without a
    proper name (Paddle's `?`, onnx's own `unk__1`) are unrelated unknowns.

    Returns:
        Whether more is known than before.
    """
    if _IS_ANNOTATED not in model.meta:
        _forget_declared_shapes(model)
        model.meta[_IS_ANNOTATED] = True
    _note_convolutions(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(_proto_to_infer(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return False
    return _annotate_graph(model.graph, inferred.graph)


def _annotate_graph(graph: ir.Graph, inferred: onnx.GraphProto) -> bool:
    """Note what was inferred for one graph and its bodies: bodies side by side may share names."""
    known = {info.name: info for info in (*inferred.value_info, *inferred.output)}
    learned = False
    for node, proto in zip(graph, inferred.node, strict=True):
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is not None and static_shape(value) is None:
                learned |= _note(value, info)
        for body, body_proto in zip(bodies_of(node), _bodies(proto), strict=False):
            learned |= _annotate_graph(body, body_proto)
    return learned


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of a value if every dim is a known number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    dims = tuple(value.shape.numpy())
    return None if min(dims, default=0) < 0 else dims  # some exporters write -1 for a dynamic dim


def rank(value: ir.Value | None) -> int | None:
    """Return the rank of a value, or None if it is unknown."""
    return None if value is None or value.shape is None else value.shape.rank()


def _forget_declared_shapes(model: ir.Model) -> None:
    for graph in all_graphs(model):
        for node in graph:
            if node.domain in _INFERRED_DOMAINS:
                for value in node.outputs:
                    value.shape = None


def _note_convolutions(model: ir.Model) -> None:
    """Note rank and channels of what a Conv gives: the weight decides them, however little is known of x."""
    for graph in all_graphs(model):
        for node in graph:
            if node.op_type != "Conv" or node.domain or node.outputs[0].shape is not None:
                continue
            weight = static_shape(node.inputs[1])
            if weight is not None and node.inputs[1] is not None:
                node.outputs[0].type = node.inputs[1].type
                node.outputs[0].shape = ir.Shape([None, weight[0], *[None] * (len(weight) - 2)])


def _proto_to_infer(model: ir.Model) -> onnx.ModelProto:
    """Return what inference reads: signature, nodes, and of the weights the small ones with their data."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    _add_inputs(proto.graph, model.graph)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not value.is_graph_input():
            if tensor.nbytes <= _MAX_PROPAGATED_BYTES:
                ir.serde.serialize_tensor_into(proto.graph.initializer.add(), tensor)
            else:
                ir.serde.serialize_value_into(proto.graph.input.add(), value)
    for node in model.graph:
        ir.serde.serialize_node_into(proto.graph.node.add(), node)
        if node.domain not in _INFERRED_DOMAINS or node.op_type == "Conv":
            for value in node.outputs:
                ir.serde.serialize_value_into(proto.graph.value_info.add(), value)
    for value in model.graph.outputs:
        proto.graph.output.add(name=value.name)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    return proto


def _add_inputs(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    for value in graph.inputs:
        ir.serde.serialize_value_into(proto.input.add(), value)
    for info in proto.input:
        for dim in info.type.tensor_type.shape.dim:
            if not _is_symbol(dim.dim_param) and dim.dim_value <= 0:
                dim.Clear()


def _is_symbol(name: str) -> bool:
    """Whether a dim's name means the same dim wherever it stands."""
    return name.isidentifier() and not name.startswith("unk__")


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _note(value: ir.Value, info: onnx.ValueInfoProto) -> bool:
    """Note what inference says of a value; return whether it adds a rank or a dim to what was known."""
    before = _known_dims(value.shape)
    type_ = ir.serde.deserialize_type_proto_for_type(info.type)
    if type_ is not None:
        value.type = type_
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    if shape is not None:
        value.shape = ir.Shape(
            [dim if isinstance(dim, int) or _is_symbol(str(dim)) else None for dim in shape]
        )
    return _known_dims(value.shape) != before


def _known_dims(shape: ir.Shape | None) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(dim if isinstance(dim, int) else None for dim in shape)
