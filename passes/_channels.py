"""Shared by the passes that change how many channels values have: which values must change together.

A region holds values [N, C, H, W] of one graph that all get so many channels more, at the end. A convolution
that mixes channels ends it: its weights take the change. Anything else that cannot follow reads the channels
as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.passes._change import input_of, is_inference
from fuseonnx.passes._dims import known_dims

_EACH_ON_ITS_OWN = frozenset(
    {
        *("Abs", "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"),
        *("Mish", "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"),
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    }
)
"""Operators that treat every channel of their first input alike, and give a finite number for zeros."""

ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass
class Region:
    """Values that change together, and who reads them besides."""

    values: dict[ir.Value, None] = field(default_factory=dict)
    followers: dict[ir.Node, None] = field(default_factory=dict)
    """Nodes whose inputs and outputs both change."""
    makers: dict[ir.Node, None] = field(default_factory=dict)
    """Convolutions that mix channels into a value of the region."""
    readers: dict[ir.Node, None] = field(default_factory=dict)
    """Convolutions that mix the channels of a value of the region."""
    cut: dict[ir.Value, list[tuple[ir.Node, int]]] = field(default_factory=dict)
    """Values that others read too, or that are graph outputs, and those uses."""


class Regions:
    """Finds the regions of one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def grow(self, seed: ir.Value) -> Region | None:
        """Return the region that holds `seed`, or None if where its channels come from cannot change."""
        if seed not in self._changeable:
            return None
        region, todo = Region(), [seed]
        while todo:
            value = todo.pop()
            if value in region.values:
                continue
            region.values[value] = None
            producer = value.producer()
            assert producer is not None
            if is_dense(producer):
                region.makers[producer] = None
            else:
                region.followers[producer] = None
                todo += changing_inputs(producer)
            todo += self._follow(value, region)
        return region

    def _follow(self, value: ir.Value, region: Region) -> list[ir.Value]:
        """Note who reads a value of the region; return what changes with it."""
        changed, others = [], []
        for use in value.uses():
            result = use.node.outputs[0]
            if self._is_near(use.node) and is_dense(use.node) and use.idx == 0:
                region.readers[use.node] = None
            elif not is_dense(use.node) and result in self._changeable and value in changing_inputs(use.node):
                changed.append(result)
            else:
                others.append((use.node, use.idx))
        if others or value.is_graph_output():
            region.cut[value] = others
        return changed

    @cached_property
    def _changeable(self) -> set[ir.Value]:
        """Values of which all that makes their channels can make more; producers come before their users."""
        found: set[ir.Value] = set()
        for node in self._graph:
            if self._is_near(node) and channels_of(node.outputs[0]) is not None and _changes(node, found):
                found.add(node.outputs[0])
        return found

    def _is_near(self, node: ir.Node) -> bool:
        return node.graph is self._graph and not node.domain and not node.device_configurations


def _changes(node: ir.Node, changeable: set[ir.Value]) -> bool:
    if is_dense(node):
        return True
    if any(output.name for output in node.outputs[1:]) or not _is_follower(node):
        return False
    changing = changing_inputs(node)
    return bool(changing) and changeable.issuperset(changing)


def channels_of(value: ir.Value | None) -> int | None:
    """Return the number of channels of a float32 value [N, C, H, W], None if it is another or unknown."""
    dims = known_dims(value) if value is not None and value.dtype is ir.DataType.FLOAT else None
    return dims[1] if dims is not None and len(dims) == 4 else None


def has_channels(operand: ir.Value) -> bool:
    """Whether an operand that meets values [N, C, H, W] has a number for each channel."""
    dims = known_dims(operand)
    return dims is not None and len(dims) > 2 and dims[-3] != 1


def is_dense(node: ir.Node) -> bool:
    """Whether a node is a Conv over two axes, in one group, whose weights are constants."""
    return (
        node.op_type == "Conv"
        and not node.domain
        and node.attributes.get_int("group", 1) == 1
        and _fixed(node)
    )


def is_depthwise(node: ir.Node) -> bool:
    """Whether a node is a Conv over two axes that keeps its channels apart, its weights being constants."""
    if node.op_type != "Conv" or node.domain or not _fixed(node):
        return False
    weight = node.inputs[1]
    assert weight is not None
    outputs, inputs = constant_tensor(weight).shape.numpy()[:2]
    return inputs == 1 and outputs == node.attributes.get_int("group", 1) > 1


def _fixed(conv: ir.Node) -> bool:
    weight, bias = conv.inputs[1], input_of(conv, 2)
    if weight is None or not is_const(weight) or len(constant_tensor(weight).shape) != 4:
        return False
    return bias is None or is_const(bias)


def _is_follower(node: ir.Node) -> bool:
    if node.op_type == "BatchNormalization":
        return is_inference(node) and all(is_const(each) for each in node.inputs[1:])
    if node.op_type in ARITHMETIC:
        channels = channels_of(node.outputs[0])
        return all(_meets(each, channels) for each in node.inputs) and (
            node.op_type != "Div" or _divides(node.inputs[1])
        )
    if node.op_type == "Concat":
        return node.attributes.get_int("axis", 0) in (1, -3) and node.inputs[-1] not in node.inputs[:-1]
    return node.op_type in _EACH_ON_ITS_OWN or is_depthwise(node)


def _meets(operand: ir.Value | None, channels: int | None) -> bool:
    """Whether an operand has so many channels and can be padded, or finite numbers for all channels alike."""
    dims = known_dims(operand) if operand is not None else None
    if operand is None or dims is None or len(dims) > 4:
        return False
    if len(dims) < 3 or dims[-3] == 1:
        return not is_const(operand) or bool(np.isfinite(array_of(operand)).all())
    return dims[-3] == channels and (is_const(operand) or channels_of(operand) == channels)


def _divides(operand: ir.Value | None) -> bool:
    return operand is not None and is_const(operand) and bool(array_of(operand).all())


def changing_inputs(node: ir.Node) -> list[ir.Value]:
    """Return the inputs of a follower that change with its output; constants are not among them."""
    if node.op_type == "Concat":
        candidates = node.inputs[-1:]
    elif node.op_type in ARITHMETIC:
        channels = channels_of(node.outputs[0])
        candidates = [each for each in node.inputs if each is not None and channels_of(each) == channels]
    else:
        candidates = node.inputs[:1]
    return [each for each in candidates if each is not None and not is_const(each)]
