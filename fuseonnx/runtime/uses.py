"""Where each value of a graph is used: read-only facts from which test inputs are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

_SMALL = 4096
"""Constants of at most this many elements are read; anything larger counts as unknown."""

_KEEPS_VALUES = {
    *("Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose", "Slice", "Gather"),
    *("GatherElements", "GatherND", "Tile", "Split", "Pad", "Clip"),
}
"""Operators whose input 0 reaches the output with its elements unchanged."""

_KEEPS_SHAPE = {"Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Relu", "Sub"}
_MOVES_WEIGHTS = {"Cast", "CastLike", "DequantizeLinear", "Identity", "Reshape", "Transpose", "Unsqueeze"}
_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
_STEPS = {
    *("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ArgMax", "ArgMin", "TopK"),
    *("NonMaxSuppression", "Round", "Floor", "Ceil", "Sign", "Hardmax", "Multinomial", "Bernoulli"),
}


@dataclass(frozen=True)
class Use:
    """`node` reads, in input `slot`, the elements of a traced value, each moved by `offset`."""

    node: onnx.NodeProto
    slot: int
    offset: int = 0


class Uses:
    """Consumers, small constants and shapes of a model, its If/Loop/Scan bodies and local functions included.

    Weights are not needed: initializers may be external references.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._consumers: dict[str, list[Use]] = {}
        self._constants: dict[str, TensorProto] = {}
        self._dims: dict[str, tuple[int | None, ...]] = {}
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        self._read(model.graph)

    def direct(self, name: str) -> list[Use]:
        """Return the nodes that read the value `name` itself."""
        return self._consumers.get(name, [])

    def reached(self, name: str) -> Iterator[Use]:
        """Yield every use of the elements of `name`, also behind Reshape, Concat, + constant…"""
        todo, seen = [(name, 0)], {(name, 0)}
        while todo:
            value, offset = todo.pop(0)
            for use in self.direct(value):
                yield Use(use.node, use.slot, offset)
                moved = self._passed_on(use, offset)
                if moved is None or len(seen) > 1000:
                    continue
                for output in use.node.output:
                    if (output, moved) not in seen:
                        seen.add((output, moved))
                        todo.append((output, moved))

    def same_shape(self, name: str) -> Iterator[Use]:
        """Yield the uses of `name`, also behind elementwise operators that keep its shape."""
        todo, seen = [name], {name}
        while todo:
            for use in self.direct(todo.pop(0)):
                yield use
                if use.node.op_type in _KEEPS_SHAPE and use.slot == 0 and use.node.output[0] not in seen:
                    seen.add(use.node.output[0])
                    todo.append(use.node.output[0])

    def constant(self, name: str) -> np.ndarray | None:
        """Return a small constant whose data is in the proto, else None."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL or np.prod(tensor.dims) > _SMALL:
            return None
        return numpy_helper.to_array(tensor)

    def dims(self, name: str) -> tuple[int | None, ...] | None:
        """Return the shape of a value, None for each unknown dimension, or None for an unknown rank."""
        return self._dims.get(name)

    @property
    def unseeded_random(self) -> list[str]:
        """Operators whose result differs from session to session."""
        return sorted({node.op_type for node in self.nodes if _is_unseeded_random(node)})

    @property
    def has_steps(self) -> bool:
        """Whether a change in the last bit can become a jump: rounding, arg max, top k and the like."""
        return any(node.op_type in _STEPS for node in self.nodes)

    @property
    def precision(self) -> float:
        """Machine epsilon of the coarsest float type that weights are computed with."""
        coarse = [
            machine_epsilon(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            for name, tensor in self._constants.items()
            if tensor.data_type in {TensorProto.FLOAT16, TensorProto.BFLOAT16}
            and any(use.node.op_type not in _MOVES_WEIGHTS for use in self.direct(name))
        ]
        return max(coarse, default=0.0)

    def _read(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self._add_constant(tensor.name, tensor)
        for value in [*graph.input, *graph.value_info, *graph.output]:
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                known = (d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims)
                self._dims.setdefault(value.name, tuple(known))
        for node in graph.node:
            self._read_node(node)

    def _read_node(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        for slot, name in enumerate(node.input):
            self._consumers.setdefault(name, []).append(Use(node, slot))
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                self._add_constant(node.output[0], attribute.t)
            elif node.op_type == "Constant" and attribute.name.startswith(("value_int", "value_float")):
                array = np.asarray(helper.get_attribute_value(attribute))
                self._add_constant(node.output[0], numpy_helper.from_array(array))
            elif attribute.type == AttributeProto.GRAPH:
                self._read(attribute.g)
                self._link_body(node, attribute.g)

    def _link_body(self, node: onnx.NodeProto, body: onnx.GraphProto) -> None:
        """Let the uses of a Loop or Scan body's input count as uses of the value that is passed in."""
        if node.op_type == "Loop":
            passed = zip(node.input[2:], body.input[2:], strict=False)
        else:
            passed = zip(node.input, body.input, strict=False)
        for outer, inner in passed:
            self._consumers.setdefault(outer, []).extend(self._consumers.get(inner.name, []))

    def _add_constant(self, name: str, tensor: TensorProto) -> None:
        self._constants[name] = tensor
        self._dims[name] = tuple(tensor.dims)

    def _passed_on(self, use: Use, offset: int) -> int | None:
        """Return the offset of the elements at the node's outputs, or None when they end here."""
        op = use.node.op_type
        if (op in _KEEPS_VALUES and use.slot == 0) or (op == "Where" and use.slot > 0) or op == "Concat":
            return offset
        if op == "Cast":
            target = helper.tensor_dtype_to_np_dtype(use.node.attribute[0].i)
            return offset if target.kind in "iu" else None
        if op in {"Add", "Sub"} and not (op == "Sub" and use.slot == 1):
            other = self.constant(use.node.input[1 - use.slot])
            if other is None or other.size != 1:
                return offset
            return offset + int(other.item()) * (1 if op == "Add" else -1)
        return None


def machine_epsilon(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next number of a float dtype, bfloat16 and float8 included."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(info.eps)


def _is_unseeded_random(node: onnx.NodeProto) -> bool:
    if any(attribute.name == "seed" for attribute in node.attribute):
        return False
    trains = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
    return trains or node.op_type in _RANDOM
