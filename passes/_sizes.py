"""How large the results of a node with constant inputs would be: a few numbers may ask for gigabytes."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from fuseonnx.core.constants import constant_tensor

_MAX_SHAPE_BYTES = 1 << 10
"""Inputs up to this size are shown to shape inference with their data; larger ones are no shapes."""


_SIZED_BY_VALUE = frozenset(
    {
        *("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "OneHot", "EyeLike"),
        *("CenterCropPad", "Col2Im", "MaxUnpool", "BlackmanWindow", "HammingWindow", "HannWindow"),
        "MelWeightMatrix",
    }
)
_FEW_ELEMENTS = 1 << 20


def bytes_made(node: ir.Node, opset: int) -> int:
    """Return the bytes of all results, as far as onnx can tell without running the node; else 0.

    0 also for few elements, whose product bounds any broadcast, unless their values decide the size.
    """
    elements = math.prod(constant_tensor(value).size or 1 for value in node.inputs if value is not None)
    if elements <= _FEW_ELEMENTS and node.op_type not in _SIZED_BY_VALUE:
        return 0
    proto = onnx.NodeProto(op_type=node.op_type)
    proto.attribute.extend(ir.serde.serialize_attribute(each) for each in node.attributes.values())
    proto.input.extend(f"i{index}" if value else "" for index, value in enumerate(node.inputs))
    proto.output.extend(f"o{index}" for index in range(len(node.outputs)))
    tensors = {
        f"i{index}": constant_tensor(value) for index, value in enumerate(node.inputs) if value is not None
    }
    types = {
        name: onnx.helper.make_tensor_type_proto(tensor.dtype.value, tensor.shape.numpy())
        for name, tensor in tensors.items()
    }
    shapes = {
        name: ir.serde.serialize_tensor(tensor)
        for name, tensor in tensors.items()
        if tensor.nbytes <= _MAX_SHAPE_BYTES
    }
    opsets = [onnx.helper.make_opsetid("", opset)]
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        made = onnx.shape_inference.infer_node_outputs(schema, proto, types, shapes, opset_imports=opsets)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
        return 0
    return sum(_bytes(type_.tensor_type) for type_ in made.values() if type_.HasField("tensor_type"))


def _bytes(tensor: onnx.TypeProto.Tensor) -> int:
    bits: int = 8 if tensor.elem_type == onnx.TensorProto.STRING else ir.DataType(tensor.elem_type).bitwidth
    elements: int = math.prod(dim.dim_value for dim in tensor.shape.dim)
    return elements * bits // 8
