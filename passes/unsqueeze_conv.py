"""Convolve signals as images of one row: onnxruntime's blocked convolutions take images alone.

    x ─ Conv(w: [m, c, k]) ─ Relu ─ Conv(v: [o, m, 1]) ─ y
        ⇒   x ─ Unsqueeze(2) ─ Conv([m, c, 1, k]) ─ Relu ─ Conv([o, m, 1, 1]) ─ Squeeze(2) ─ y

One thread takes 0.15 to 0.6 of the time for channels that are convolved on their own, 0.4 to 0.95 for others,
and computes the activation and the sum of two signals on the way. Activations, sums, pools and convolutions
of width 1 follow; alone, the latter would not pay for the reorders. A Conv stays where many of the channels
would be zeros that fill up a block of 16, or fewer than 16 are read: its kernel is no faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Attributes, Builder, Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import places
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._chains import AXES_ARE_INPUTS, int64s
from fuseonnx.passes._change import input_of
from fuseonnx.passes._sameness import replace_value

_NAME = "unsqueeze_conv"
_SIGNAL_RANK = 3
_ROW = 2
"""The axis that a signal [n, c, l] gets."""
_STEP = 4
"""onnxruntime has blocked convolutions for channels that four divides."""
_BLOCK = 16
"""Its largest block of channels, those of AVX-512; the last one is filled with zeros."""
_WASTE = 1.25
"""How many times the products may become that are computed, with the zeros."""
_FOLLOWERS = frozenset(
    {
        *("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"),
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    }
)
"""Operators that onnxruntime computes on blocks of channels, or as a part of a convolution."""
_SUMS = frozenset({"Add", "Mul"})
_ALONG = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0}
"""Attributes with numbers for each spatial axis, and what stands there for an axis of size 1."""


def run(model: ir.Model, journal: Journal) -> None:
    """Change the convolutions of each graph that win, and what can follow them."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        rows = _Rows(graph, opset, names, constant_nodes=constant_nodes)
        for node in list(graph):
            at = node.outputs[0].name or ""
            if rows.wins(node):
                if journal.admits(_NAME, at):
                    rows.change(node)
                    journal.record(_NAME, at)
            elif rows.follows(node):
                rows.change(node)
        rows.leave()


class _Rows:
    """The signals of one graph that are images of one row."""

    def __init__(self, graph: ir.Graph, opset: int, names: Names, *, constant_nodes: bool) -> None:
        self._graph, self._opset, self._names = graph, opset, names
        self._constant_nodes = constant_nodes
        self._images: dict[ir.Value, ir.Value] = {}
        self._changed: dict[ir.Value, ir.Node] = {}

    def wins(self, node: ir.Node) -> bool:
        """Whether a Conv is faster on images: by itself, or because it takes in what comes after it."""
        w = _blocked_weights(node)
        if w is None:
            return False
        return node.attributes.get_int("group", 1) > 1 or w[2] > 1 or self._takes_in(node)

    def _takes_in(self, conv: ir.Node) -> bool:
        output = conv.outputs[0]
        return any(
            user.op_type in _FOLLOWERS
            or (user.op_type in _SUMS and all(map(self._is_or_becomes_image, {*user.inputs} - {output})))
            for user in output.consumers()
        )

    def _is_or_becomes_image(self, value: ir.Value | None) -> bool:
        producer = value.producer() if value is not None else None
        return value in self._changed or (producer is not None and _blocked_weights(producer) is not None)

    def follows(self, node: ir.Node) -> bool:
        """Whether onnxruntime computes a node on blocks of channels too, if it computes its signals so."""
        if node.domain or node.device_configurations or any(output.name for output in node.outputs[1:]):
            return False
        if node.op_type in _SUMS:
            return all(value in self._changed for value in node.inputs)
        if input_of(node, 0) not in self._changed:
            return False
        if node.op_type == "Conv":
            return _blocked_weights(node) is not None
        bounds = node.inputs[1:]
        return node.op_type in _FOLLOWERS and all(bound is None or is_const(bound) for bound in bounds)

    def change(self, node: ir.Node) -> None:
        """Compute an image of one row beside the signal that a node gives."""
        new, output = self._builder(node), node.outputs[0]
        is_conv, is_sum = node.op_type == "Conv", node.op_type in _SUMS
        inputs = [
            self._image(value, new) if value and (is_sum or index == 0) else value
            for index, value in enumerate(node.inputs)
        ]
        if is_conv and inputs[1]:
            inputs[1] = new.const(array_of(inputs[1])[:, :, None], inputs[1])
        image = new.op(node.op_type, *inputs, attributes=_along_the_row(node), like=node)
        self._note(output, image)
        self._changed[output] = node
        self._insert(node, new)

    def leave(self) -> None:
        """Let all others read the row of the image, and drop the signals."""
        for output, node in reversed(self._changed.items()):
            if output.uses() or output.is_graph_output():
                new = self._builder(node)
                signal = self._turn("Squeeze", self._images[output], new)
                signal.type, signal.shape = output.type, output.shape
                self._insert(node, new)
                replace_value(output, signal)
            self._graph.remove(node, safe=True)

    def _image(self, value: ir.Value, new: Builder) -> ir.Value:
        if value not in self._images:
            self._note(value, self._turn("Unsqueeze", value, new))
        return self._images[value]

    def _note(self, signal: ir.Value, image: ir.Value) -> None:
        self._images[signal] = image
        image.type = signal.type
        if signal.shape is not None:
            image.shape = ir.Shape([*signal.shape[:_ROW], 1, *signal.shape[_ROW:]])

    def _turn(self, op_type: str, value: ir.Value, new: Builder) -> ir.Value:
        if self._opset < AXES_ARE_INPUTS:
            return new.op(op_type, value, attributes={"axes": [_ROW]})
        return new.op(op_type, value, int64s(new, [_ROW]))

    def _builder(self, node: ir.Node) -> Builder:
        return Builder(node, self._names, constant_nodes=self._constant_nodes)

    def _insert(self, node: ir.Node, new: Builder) -> None:
        for value in new.initializers:
            self._graph.register_initializer(value)
        self._graph.insert_before(node, new.nodes)


def _blocked_weights(node: ir.Node) -> Sequence[int] | None:
    """Return the shape of a Conv's weights, if it would have a blocked kernel that is worth it; or None."""
    w = _weights(node)
    if w is None:
        return None
    groups = node.attributes.get_int("group", 1)
    outputs, inputs = w[0] // groups, w[1]
    if inputs == outputs == 1:
        return w if groups >= _BLOCK and groups % _STEP == 0 else None
    fits = inputs % _STEP == 0 and (groups == 1 or outputs % _STEP == 0)
    blocks = math.prod(-(-channels // _BLOCK) * _BLOCK for channels in (inputs, outputs))
    return w if fits and inputs >= _BLOCK and blocks <= _WASTE * inputs * outputs else None


def _weights(node: ir.Node) -> Sequence[int] | None:
    """Return the shape of the constant float32 weights of a Conv of signals; None if it is something else."""
    w = input_of(node, 1)
    if node.op_type != "Conv" or node.domain or node.device_configurations or w is None or not is_const(w):
        return None
    shape = static_shape(w)
    is_float = w.dtype is ir.DataType.FLOAT
    return shape if is_float and shape is not None and len(shape) == _SIGNAL_RANK else None


def _along_the_row(node: ir.Node) -> Attributes:
    """Return the attributes of a node for images of one row in place of signals."""
    attributes: dict[str, ir.Attr | Sequence[int]] = dict(node.attributes)
    for name, nothing in _ALONG.items():
        numbers = node.attributes.get_ints(name)
        if numbers is not None:
            attributes[name] = [each for number in numbers for each in (nothing, number)]
    return attributes


RULE = GraphPass(_NAME, run)
