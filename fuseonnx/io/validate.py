"""Refuse what onnx-ir would load in silence although nothing could run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import proto_bodies_of
from fuseonnx.errors import ModelLoadError

_TYPED_DATA = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_SPARSE = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)
_COMPLEX = frozenset({ir.DataType.COMPLEX64, ir.DataType.COMPLEX128})


def check(proto: onnx.ModelProto, path: Path) -> None:
    """Check texts, versions, names and the size of each tensor.

    Raises:
        ModelLoadError: a text is not UTF-8, the model is newer than the installed onnx or not for inference,
            a name or type is missing, a name is taken twice, a local function calls itself, or a tensor
            holds more or less data than its shape and type say.
    """
    _check_text(proto, path)
    _check_versions(proto, path)
    _check_graph(proto.graph, path)
    if not proto.graph.output:
        raise ModelLoadError(f"{path}: the graph has no output; export the model again")
    for function in proto.functions:
        _check_names((*function.input, *_defined(function.node, path)), path)
        for node in function.node:
            for body in proto_bodies_of(node):
                _check_graph(body, path)
    _check_calls(proto, path)
    for tensor in tensors(proto):
        _check_size(tensor, path)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model: initializers, and attributes of nodes, wherever they are."""
    yield from proto.graph.initializer
    yield from tensors_in_nodes(proto)


def tensors_in_nodes(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model but the initializers of its main graph."""
    yield from _node_tensors(proto.graph.node)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def nbytes(tensor: onnx.TensorProto) -> int:
    """Return the size of a tensor's payload, as its shape and type say."""
    bits: int = prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth
    return (bits + 7) // 8


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and not attribute.ref_attr_name:
                yield attribute.t
            yield from attribute.tensors
        for body in proto_bodies_of(node):
            yield from _graph_tensors(body)


def _check_text(message: Any, path: Path) -> None:
    for descriptor, value in message.ListFields():
        if descriptor.type not in (descriptor.TYPE_STRING, descriptor.TYPE_MESSAGE):
            continue
        for each in value if descriptor.is_repeated else (value,):
            if isinstance(each, bytes):  # protobuf's way to return a string that is not UTF-8
                raise ModelLoadError(f"{path}: the text {each[:40]!r} is not UTF-8; export the model again")
            if not isinstance(each, str):
                _check_text(each, path)


def _check_versions(proto: onnx.ModelProto, path: Path) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelLoadError(
            f"{path}: IR version {proto.ir_version} is unknown to onnx {onnx.__version__}; upgrade onnx"
        )
    newest = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    if not 1 <= opset <= newest:
        raise ModelLoadError(
            f"{path}: opset {opset} is unknown to onnx {onnx.__version__}, which knows 1 to {newest}; "
            "upgrade onnx, or export the model at an older opset"
        )
    if proto.training_info:
        raise ModelLoadError(f"{path}: holds training_info; export the model for inference")


def _check_calls(proto: onnx.ModelProto, path: Path) -> None:
    """Check that no local function calls itself, be it through others: onnx forbids that."""
    calls = {(each.domain, each.name): set(_called(each.node)) for each in proto.functions}
    while ended := [key for key, called in calls.items() if not called & calls.keys()]:
        for key in ended:
            del calls[key]
    if calls:
        _, name = next(iter(calls))
        raise ModelLoadError(f"{path}: the local function '{name}' calls itself; export the model without it")


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        yield node.domain, node.op_type
        for body in proto_bodies_of(node):
            yield from _called(body.node)


def _check_graph(graph: onnx.GraphProto, path: Path) -> None:
    inputs = [info.name for info in graph.input]
    initializers = [tensor.name for tensor in graph.initializer]
    if "" in initializers:
        raise ModelLoadError(f"{path}: an initializer has no name; export the model again")
    _check_names(initializers, path)
    _check_names([info.name for info in graph.output], path)
    own = set(initializers) - set(inputs)
    _check_names((*inputs, *own, *_defined(graph.node, path)), path)
    for node in graph.node:
        for body in proto_bodies_of(node):
            _check_graph(body, path)


def _defined(nodes: Iterable[onnx.NodeProto], path: Path) -> Iterator[str]:
    """Yield the names of the outputs of nodes, and check the nodes themselves."""
    for node in nodes:
        if not any(node.output) and node.domain in ("", "ai.onnx"):
            raise ModelLoadError(
                f"{path}: node '{node.name}' ({node.op_type}) has no output; export the model again"
            )
        for attribute in node.attribute:
            if not attribute.type:
                raise ModelLoadError(
                    f"{path}: attribute '{attribute.name}' of node '{node.name}' has no type; "
                    "export the model again"
                )
            if attribute.type in _SPARSE:
                raise ModelLoadError(
                    f"{path}: node '{node.name}' ({node.op_type}) holds a sparse tensor, as only a Constant "
                    "of the main graph may, if it is no graph output; make it dense"
                )
        yield from filter(None, node.output)


def _check_names(names: Sequence[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelLoadError(f"{path}: '{name}' is defined twice; export the model again")
        seen.add(name)


def _check_size(tensor: onnx.TensorProto, path: Path) -> None:
    dtype = ir.DataType(tensor.data_type)
    elements = prod(tensor.dims)
    if min(tensor.dims, default=0) < 0:
        found, needed, unit = min(tensor.dims), 0, "as a dim"
    elif tensor.data_location == onnx.TensorProto.EXTERNAL:
        given = {entry.key: entry.value for entry in tensor.external_data}
        needed, unit = nbytes(tensor), "bytes"
        found = int(given.get("length", needed))
    elif tensor.HasField("raw_data"):
        found, needed, unit = len(tensor.raw_data), nbytes(tensor), "bytes"
    else:
        found, unit = sum(len(getattr(tensor, field)) for field in _TYPED_DATA), "elements"
        packed = dtype is not ir.DataType.STRING and dtype.bitwidth < 8
        needed = nbytes(tensor) if packed else elements * (2 if dtype in _COMPLEX else 1)
    if found != needed:
        raise ModelLoadError(
            f"{path}: tensor '{tensor.name}' has {found} {unit} where its shape and type need {needed}; "
            "export the model again"
        )
