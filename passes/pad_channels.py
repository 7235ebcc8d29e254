"""Pad channels with zeros to a multiple of four: onnxruntime's blocked convolutions take no others.

    x ─ Conv(w: [58, c, 1, 1]) ─ Relu ─ Conv(v: [58, 1, 3, 3], group=58) ─ Conv(u: [m, 58, 1, 1]) ─ y
        ⇒   x ─ Conv([60, c, 1, 1]) ─ Relu ─ Conv([60, 1, 3, 3], group=60) ─ Conv([m, 60, 1, 1]) ─ y

The new channels are f(0) for some f and meet weights of zero, so that every sum stays what it was. Where
onnxruntime has no blocked kernel, for a depthwise Conv whose channels four does not divide, and for a Conv
that reads 16 channels or more and of which the same holds, it takes a slower one and reorders on both sides
(docs/forms.md). What cannot follow, such as a Concat, reads a Slice with the old channels; there must not be
more of these than convolutions that win.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder, Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import DECLARED, places
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._chains import int64s
from fuseonnx.passes._change import input_of
from fuseonnx.passes._channels import (
    ARITHMETIC,
    Region,
    Regions,
    channels_of,
    has_channels,
    is_dense,
    is_depthwise,
)

_NAME = "pad_channels"
_STEP = 4
_SLICE_TAKES_INPUTS = 10
_FEWEST = 16
"""A Conv that reads fewer channels is blocked whatever they are."""


def run(model: ir.Model, journal: Journal) -> None:
    """Pad the channels of each region in which a convolution wins by it."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        if opset < _SLICE_TAKES_INPUTS or constant_nodes:
            continue
        regions, seen = Regions(graph), set[ir.Value]()
        for node in list(graph):
            source = node.inputs[0] if _wins(node) else None
            if source is None or source in seen:
                continue
            at = node.outputs[0].name or ""
            region = regions.grow(source)
            if region is None:
                journal.decline(_NAME, at, node.op_type, "what makes the channels cannot make more")
                continue
            seen.update(region.values)
            more = -(channels_of(source) or 0) % _STEP
            if reason := _why_not(region, more):
                journal.decline(_NAME, at, node.op_type, reason)
            elif journal.admits(_NAME, at):
                _Padding(region, more, Builder(node, names, constant_nodes=False), graph, names).apply()
                journal.record(_NAME, at)


def _why_not(region: Region, more: int) -> str:
    """Return why a region stays as it is, or an empty string."""
    convs = [node for node in (*region.followers, *region.readers) if _is_picky(node, more)]
    if any(((channels_of(node.inputs[0]) or 0) + more) % _STEP for node in convs):
        return "convolutions that need other numbers of channels depend on each other"
    return "too many others read the channels" if len(region.cut) > sum(map(_wins, convs)) else ""


def _wins(node: ir.Node) -> bool:
    return _is_picky(node) and bool((channels_of(node.inputs[0]) or 0) % _STEP)


def _is_picky(node: ir.Node, more: int = 0) -> bool:
    """Whether it depends on its channels if onnxruntime has a blocked kernel for a node that reads `more`."""
    channels = channels_of(node.inputs[0]) if node.op_type == "Conv" else None
    return channels is not None and (is_depthwise(node) or (channels + more >= _FEWEST and is_dense(node)))


class _Padding:
    """The change of one region, in place."""

    def __init__(self, region: Region, more: int, new: Builder, graph: ir.Graph, names: Names) -> None:
        self._region, self._more, self._new, self._graph, self._names = region, more, new, graph, names

    def apply(self) -> None:
        """Pad the constants, then give each value its new shape and its old readers what they read."""
        makers, readers = self._region.makers, self._region.readers
        for node in {**makers, **readers}:
            self._pad(node, 1, [axis for axis, nodes in enumerate((makers, readers)) if node in nodes])
        for node in makers:
            self._pad(node, 2, [0])
        for node in self._region.followers:
            self._pad_follower(node)
        for value in self._region.values:
            self._widen(value)
        for value in self._new.initializers:
            self._graph.register_initializer(value)

    def _pad_follower(self, node: ir.Node) -> None:
        if node.op_type == "Conv":
            self._pad(node, 1, [0])
            self._pad(node, 2, [0])
            node.attributes["group"] = ir.AttrInt64("group", node.attributes.get_int("group", 1) + self._more)
        elif node.op_type == "BatchNormalization":
            for index, filler in ((1, 0), (2, 0), (3, 0), (4, 1)):
                self._pad(node, index, [0], filler)
        elif node.op_type in ARITHMETIC:
            for index, operand in enumerate(node.inputs):
                if operand is not None and is_const(operand) and has_channels(operand):
                    self._pad(node, index, [-3], int(node.op_type == "Div"))

    def _pad(self, node: ir.Node, index: int, axes: list[int], filler: int = 0) -> None:
        """Append `filler` to a constant input, if it is there, along the axes of the channels."""
        old = input_of(node, index)
        if old is not None:
            array = array_of(old)
            widths = np.zeros((array.ndim, 2), dtype=int)
            widths[axes, 1] = self._more
            padded = np.pad(array, widths, constant_values=filler)
            node.replace_input_with(index, self._new.const(padded, like=old))

    def _widen(self, value: ir.Value) -> None:
        """Give a value its new shape, and with it another name; who cannot follow reads the old channels."""
        name, shape, channels = value.name or "", value.shape, channels_of(value)
        assert shape is not None
        assert channels is not None
        if value in self._region.cut:
            self._cut(value, shape, channels)
        else:
            self._graph.meta.get(DECLARED, {}).pop(name, None)
        value.name = self._names.fresh(f"{name}_padded")
        value.shape = ir.Shape([shape[0], channels + self._more, shape[2], shape[3]])
        value.meta.clear()

    def _cut(self, value: ir.Value, shape: ir.Shape, channels: int) -> None:
        producer = value.producer()
        assert producer is not None
        before = self._new.op("Slice", value, *(int64s(self._new, [number]) for number in (0, channels, 1)))
        before.type, before.shape, before.name = value.type, shape, value.name
        for node, index in self._region.cut[value]:
            node.replace_input_with(index, before)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = before
        self._graph.insert_after(producer, self._new.nodes)
        self._new.nodes.clear()


RULE = GraphPass(_NAME, run)
