"""Types and shapes of values, inferred by onnx and noted on the IR's values for rules to read.

They are analysis: saving writes only the types and shapes that the source file declared itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from fuseonnx.analysis.expr import is_symbol
from fuseonnx.analysis.names import make_distinct
from fuseonnx.analysis.symbolic import note
from fuseonnx.core.graph import (
    INITIALIZERS_ARE_INPUTS_BEFORE_IR,
    all_graphs,
    bodies_of,
    may_hold_bodies,
    proto_bodies_of,
    top_graphs,
)

_INFERRED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MAX_PROPAGATED_BYTES = 1 << 10
_RANKED = frozenset({"Conv", "Reshape"})
"""Operators whose second input alone decides the rank: the weight has it, the target has as many elements."""
_IS_ANNOTATED = "fuseonnx.annotated"


def annotate(model: ir.Model) -> bool:
    """Set `.type` and `.shape` of the values of `model` as far as onnx and symbols can infer them.

    What the file declares for the values inside the graph is not believed, because it is often stale: only
    graph inputs, initializers and the outputs of operators that onnx does not know count. Dims without a
    proper name (Paddle's `?`, onnx's own `unk__1`) are unrelated unknowns. The first time, symbols wait: they
    tell more, of fewer nodes, once constants are computed.

    Returns:
        Whether more is known than before, or may be the next time.
    """
    is_first = _IS_ANNOTATED not in model.meta
    if is_first:
        _forget_declared_shapes(model)
        model.meta[_IS_ANNOTATED] = True
    learned = _note_ranks(model)
    with contextlib.suppress(onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        inferred = onnx.shape_inference.infer_shapes(_proto_to_infer(model), data_prop=True)
        learned |= _annotate_graph(model.graph, inferred.graph)
    if is_first:
        return True
    for graph in all_graphs(model):
        learned |= note(graph)
    return learned


def _annotate_graph(graph: ir.Graph, inferred: onnx.GraphProto) -> bool:
    """Note what was inferred for one graph and its bodies, whose values are known by other names there."""
    known = {info.name: info for info in (*inferred.value_info, *inferred.output)}
    learned = False
    for node, proto in zip(graph, inferred.node, strict=True):
        for value, name in zip(node.outputs, proto.output, strict=True):
            info = known.get(name)
            if info is not None and static_shape(value) is None:
                learned |= _note(value, info)
        if may_hold_bodies(node):
            for body, body_proto in zip(bodies_of(node), proto_bodies_of(proto), strict=False):
                learned |= _annotate_graph(body, body_proto)
    return learned


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of a value if every dim is a known number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(value.shape.numpy())


def rank(value: ir.Value | None) -> int | None:
    """Return the rank of a value, or None if it is unknown."""
    return None if value is None or value.shape is None else value.shape.rank()


def _forget_declared_shapes(model: ir.Model) -> None:
    """Forget what is declared for results that onnx infers, and of the rest what is no dim."""
    outermost = set(top_graphs(model))
    for graph in all_graphs(model):
        declared = list(graph.inputs)
        for node in graph:
            if node.domain not in _INFERRED_DOMAINS:
                declared += node.outputs
                continue
            for value in node.outputs:
                value.shape = None
        for value in declared:
            if value.shape is not None:
                value.shape = ir.Shape([_trusted(dim, named=graph in outermost) for dim in value.shape])


def _trusted(dim: int | ir.SymbolicDim, *, named: bool) -> int | ir.SymbolicDim | None:
    """Return a declared dim; a name in a body may mean another size each time the body runs."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None  # some exporters write -1 for a dynamic dim
    return dim if named else None


def _note_ranks(model: ir.Model) -> bool:
    """Note what onnx leaves out where the first input, or the value of a Reshape's target, is unknown.

    Returns:
        Whether a rank was unknown before.
    """
    learned = False
    for graph in all_graphs(model):
        for node in graph:
            if node.op_type not in _RANKED or node.domain or node.outputs[0].shape is not None:
                continue
            data, parameter = node.inputs[0], static_shape(node.inputs[1]) if len(node.inputs) > 1 else None
            if data is None or data.type is None or not parameter:
                continue
            if node.op_type == "Conv":
                dims = [None, parameter[0], *[None] * (len(parameter) - 2)]
            else:
                dims = [None] * parameter[0]
            node.outputs[0].type, node.outputs[0].shape = data.type, ir.Shape(dims)
            learned = True
    return learned


def _proto_to_infer(model: ir.Model) -> onnx.ModelProto:
    """Return what inference reads: signature, nodes, and of the weights the small ones with their data."""
    proto = onnx.ModelProto(ir_version=max(model.ir_version, INITIALIZERS_ARE_INPUTS_BEFORE_IR))
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    _add_inputs(proto.graph, model.graph)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not value.is_graph_input():
            if tensor.nbytes <= _MAX_PROPAGATED_BYTES:
                ir.serde.serialize_tensor_into(proto.graph.initializer.add(), tensor)
                proto.graph.initializer[-1].name = value.name or ""
            else:
                ir.serde.serialize_value_into(proto.graph.input.add(), value)
    _add_nodes(proto.graph, model.graph)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
        make_distinct(proto.functions[-1].node, set(proto.functions[-1].input))
    make_distinct(proto.graph.node, {each.name for each in (*proto.graph.input, *proto.graph.initializer)})
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        _stand_in_for_groups(nodes)
    return proto


def _stand_in_for_groups(nodes: Iterable[onnx.NodeProto]) -> None:
    """Write Identity for GroupNormalization: onnx does not infer that it keeps the type and shape."""
    for node in nodes:
        if node.op_type == "GroupNormalization" and not node.domain:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        for body in proto_bodies_of(node):
            _stand_in_for_groups(body.node)


def _add_inputs(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    for value in graph.inputs:
        ir.serde.serialize_value_into(proto.input.add(), value)
    for info in proto.input:
        for dim in info.type.tensor_type.shape.dim:
            if not is_symbol(dim.dim_param) and dim.dim_value <= 0:
                dim.Clear()


def _add_nodes(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    """Add the nodes, and what is known of the results for which inference has no answer of its own."""
    for node in graph:
        ir.serde.serialize_node_into(proto.node.add(), node)
        if node.domain not in _INFERRED_DOMAINS or node.op_type in _RANKED:
            for value in node.outputs:
                if not value.is_graph_output():
                    ir.serde.serialize_value_into(proto.value_info.add(), value)
    for value in graph.outputs:
        producer = value.producer()
        if producer is not None and producer.domain not in _INFERRED_DOMAINS:
            ir.serde.serialize_value_into(proto.output.add(), value)
        else:
            proto.output.add(name=value.name)


def _note(value: ir.Value, info: onnx.ValueInfoProto) -> bool:
    """Note what inference says of a value; return whether it adds a rank or a dim to what was known."""
    before = _known_dims(value.shape)
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(info.type)
    if info.type.tensor_type.HasField("shape"):
        dims = _dims(info.type.tensor_type.shape)
        if before is not None and len(before) == len(dims):
            dims = [new if old is None else old for old, new in zip(before, dims, strict=True)]
        value.shape = ir.Shape(dims)
    return _known_dims(value.shape) != before


def _dims(shape: onnx.TensorShapeProto) -> list[int | str | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param if is_symbol(dim.dim_param) else None
        for dim in shape.dim
    ]


def _known_dims(shape: ir.Shape | None) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(dim if isinstance(dim, int) else None for dim in shape)
