"""Values that are known before the model runs, and their data, which stays on disk until it is asked for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_TILE = 256, 64

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def is_const(value: ir.Value | None) -> bool:
    """Whether a value is known before the model runs.

    An initializer that is also a graph input can be overridden by the caller, so it is not.
    """
    if value is None:
        return False
    producer = value.producer()
    if producer is not None:
        return producer.op_type == "Constant" and producer.domain == "" and _has_tensor(producer)
    return value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def _has_tensor(constant: ir.Node) -> bool:
    attribute = next(iter(constant.attributes.values()), None)
    return attribute is not None and attribute.value is not None and not attribute.name.startswith("sparse")


def constant_tensor(value: ir.Value) -> ir.TensorProtocol:
    """Return the tensor behind a constant value: an initializer's, or a Constant node's in any spelling."""
    if value.const_value is not None:
        return value.const_value
    producer = value.producer()
    assert producer is not None
    attribute = next(iter(producer.attributes.values()))
    if attribute.type is ir.AttributeType.TENSOR:
        tensor: ir.TensorProtocol = attribute.value  # as_tensor() checks a protocol member by member: slow
        return tensor
    if attribute.type in (ir.AttributeType.STRING, ir.AttributeType.STRINGS):
        texts = (
            [attribute.as_string()] if attribute.type is ir.AttributeType.STRING else attribute.as_strings()
        )
        shape = () if attribute.type is ir.AttributeType.STRING else (len(texts),)
        return ir.StringTensor([text.encode() for text in texts], shape=ir.Shape(shape), name=value.name)
    is_float = attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
    return ir.Tensor(np.array(attribute.value, dtype=np.float32 if is_float else np.int64), name=value.name)


def array_of(value: ir.Value) -> Array:
    """Return the data of a constant value.

    Raises:
        ValueError: the value is not constant.
    """
    if not is_const(value):
        raise ValueError(f"'{value.name}' is not a constant")
    return data_of(constant_tensor(value))


def contiguous(array: Array) -> Array:
    """Return `array` in C order, a transposed matrix tile by tile: numpy's own copy is far slower."""
    if array.flags.c_contiguous or array.ndim != 2:
        return np.ascontiguousarray(array).reshape(array.shape)
    copy = np.empty(array.shape, array.dtype)
    rows, columns = _TILE
    for row in range(0, array.shape[0], rows):
        for column in range(0, array.shape[1], columns):
            tile = slice(row, row + rows), slice(column, column + columns)
            copy[tile] = array[tile]
    return copy


def data_of(tensor: ir.TensorProtocol) -> Array:
    """Return the data of a tensor; a part of a file is mapped only for as long as the array lives."""
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.ExternalTensor(
            tensor.location, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name
        )
    return tensor.numpy()
