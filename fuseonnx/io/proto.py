"""The IR as a ModelProto that holds no large payload."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeGuard

import onnx
import onnx_ir as ir

from fuseonnx.core.graph import DECLARED, INITIALIZERS_ARE_INPUTS_BEFORE_IR, all_graphs
from fuseonnx.io.load import Signature

Tensor = ir.TensorProtocol

SLOT = "fuseonnx-payload-slot:"
"""A tensor whose external location is this and a number has its payload in that place of a list."""

_MIN_SLOTTED_BYTES = 4096


def to_proto(model: ir.Model, signature: Signature) -> tuple[onnx.ModelProto, list[Tensor]]:
    """Return what is to be saved, with the source's own signature and value_info, and its large payloads.

    In the proto, a slot stands in the place of each payload of 4 KiB or more.
    """
    payloads: list[Tensor] = []
    with _only_declared_value_info(model), _slots_for_large_tensors(model, payloads):
        proto = ir.to_proto(model)
    for field, infos in ((proto.graph.input, signature.inputs), (proto.graph.output, signature.outputs)):
        del field[:]
        field.extend(infos)
    proto.graph.sparse_initializer.extend(signature.sparse_initializers)
    if model.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE_IR:
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in proto.graph.initializer
        )
    return proto, payloads


@contextlib.contextmanager
def _slots_for_large_tensors(model: ir.Model, payloads: list[Tensor]) -> Iterator[None]:
    """Put an external reference to slot i in the place of each large tensor; collect them in `payloads`."""
    undo: list[Callable[[], None]] = []
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if _is_large(tensor):
                undo.append(partial(setattr, value, "const_value", tensor))
                value.const_value = _slot(payloads, tensor)
        for node in graph:
            for name, attribute in tuple(node.attributes.items()):
                slotted = _slotted(attribute, payloads)
                if slotted is not attribute:
                    undo.append(partial(node.attributes.__setitem__, name, attribute))
                    node.attributes[name] = slotted
    try:
        yield
    finally:
        for restore in undo:
            restore()


def _slotted(attribute: ir.Attr, payloads: list[Tensor]) -> ir.Attr:
    """Return the attribute itself, or one with slots in the place of its large tensors."""
    if attribute.is_ref():
        return attribute
    if attribute.type is ir.AttributeType.TENSOR and _is_large(attribute.value):
        return ir.AttrTensor(
            attribute.name, _slot(payloads, attribute.value), doc_string=attribute.doc_string
        )
    if attribute.type is ir.AttributeType.TENSORS and any(map(_is_large, attribute.value)):
        tensors = [_slot(payloads, each) if _is_large(each) else each for each in attribute.value]
        return ir.AttrTensors(attribute.name, tensors, doc_string=attribute.doc_string)
    return attribute


def _is_large(tensor: ir.TensorProtocol | None) -> TypeGuard[ir.TensorProtocol]:
    if tensor is None or isinstance(tensor, ir.StringTensor):
        return False
    return isinstance(tensor, ir.ExternalTensor) or tensor.nbytes >= _MIN_SLOTTED_BYTES


def _slot(payloads: list[Tensor], tensor: Tensor) -> ir.ExternalTensor:
    payloads.append(tensor)
    return ir.ExternalTensor(
        f"{SLOT}{len(payloads) - 1}",
        None,
        None,
        tensor.dtype,
        shape=ir.Shape(tuple(tensor.shape.numpy())),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


@contextlib.contextmanager
def _only_declared_value_info(model: ir.Model) -> Iterator[None]:
    """Give values the type and shape that the source declares for their name, and no others."""
    known: list[tuple[ir.Value, ir.TypeProtocol | None, ir.Shape | None]] = []
    for graph in all_graphs(model):
        declared = graph.meta.get(DECLARED)
        if declared is None:  # a model that did not come from a file declares what its values say
            continue
        outputs = [value for node in graph for value in node.outputs]
        for value in (*graph.inputs, *graph.initializers.values(), *outputs):
            known.append((value, value.type, value.shape))
            value.type, value.shape = declared.get(value.name, (None, None))
    try:
        yield
    finally:
        for value, type_, shape in known:
            value.type, value.shape = type_, shape
