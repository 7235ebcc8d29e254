"""Shared by the rewrites that combine linear operators: the chains of them that a graph holds, and back.

A branch is a chain of linear operators with constant weights whose results nobody else uses, read from where
it starts; an operator is read as a `Linear` (see `_linear`) with channels on axis 1 (Conv) or last (MatMul).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import any_of, const, match_root, maybe, op, root_types, var
from fuseonnx.core.rule import Match
from fuseonnx.passes._affine import (
    batch_norm,
    batch_norm_affine,
    cast_finite,
    cast_weights,
    is_float,
    not_inference,
)
from fuseonnx.passes._linear import Dims, Linear, Window, chain, chained, pointwise

_LONGEST = 6
WEIGHTED = frozenset({"Conv", "MatMul", "Gemm"})
_LINEAR = any_of(
    op(("Conv", "Gemm"), var("x"), const("w"), maybe(const("b"))),
    op("MatMul", var("x"), const("w")),
    op("AveragePool", var("x")),
    op(("Add", "Mul"), var("x"), const("c")),
    batch_norm(var("x")),
)
_LINEAR_TYPES = root_types(_LINEAR)


@dataclass(frozen=True)
class Branch:
    """Linear operators in a row; none stands for the identity."""

    start: ir.Value
    steps: tuple[Match, ...]

    @property
    def weighted(self) -> Match | None:
        """The first operator that mixes channels."""
        return next((step for step in self.steps if step.root.op_type in WEIGHTED), None)


def is_private(node: ir.Node, graph: ir.Graph | None) -> bool:
    """Whether a node stands in `graph` and may go with the one user of its first output."""
    used = [output for output in node.outputs if output.uses() or output.is_graph_output()]
    return (
        not node.domain
        and node.graph is graph
        and used == [node.outputs[0]]
        and len(used[0].uses()) == 1
        and not used[0].is_graph_output()
        and not node.device_configurations
        and not any(attribute.is_ref() for attribute in node.attributes.values())
    )


def branch_to(end: ir.Value, graph: ir.Graph | None, opset: int) -> Branch:
    """Return the longest branch that ends in a value."""
    steps: list[Match] = []
    while len(steps) < _LONGEST:
        node = end.producer()
        if node is None or node.op_type not in _LINEAR_TYPES or not is_private(node, graph):
            break
        step = read(node, opset)
        if step is None:
            break
        steps.insert(0, step)
        end = step["x"]
    return Branch(end, tuple(steps))


def read(node: ir.Node, opset: int) -> Match | None:
    """Return a match that captures the input `x` and the constants of a linear operator."""
    captures = next(match_root(_LINEAR, node), None)
    return None if captures is None else Match(node, captures, opset)


def channels_and_axes(weighted: Match) -> tuple[int, int]:
    """Return the channels that an operator with weights reads, and its spatial axes."""
    dims, node = _dims(weighted["w"]), weighted.root
    if node.op_type == "Conv":
        return dims[1] * node.attributes.get_int("group", 1), len(dims) - 2
    return dims[-1] if node.attributes.get_int("transB", 0) else dims[0], 0


def window_of(branch: Branch, channels: int, axes: int) -> tuple[Window, int] | str:
    """Return the window of a whole branch and what its operators cost one by one, or why there is none."""
    whole = pointwise(channels, channels, axes, group=channels)
    cost = 0
    for step in branch.steps:
        window = step_window(step, whole.outputs, axes)
        if isinstance(window, str):
            return window
        both = chained(whole, window)
        if isinstance(both, str):
            return both
        whole, cost = both, cost + window.cost
    return whole, cost or whole.cost


def linear_of(branch: Branch, channels: int, axes: int) -> Linear:
    """Return the numbers of a branch that has a window."""
    window = pointwise(channels, channels, axes, group=channels)
    whole = Linear(window, np.ones((channels, 1, *window.kernel)), np.zeros(channels))
    for index, step in enumerate(branch.steps):
        own = step_window(step, whole.window.outputs, axes)
        assert isinstance(own, Window)
        part = _numbers(step, own)
        both = chained(whole.window, own)
        assert isinstance(both, Window)
        whole = chain(whole, part, both) if index else part
    return whole


def step_window(step: Match, channels: int, axes: int) -> Window | str:
    """Return the window of one operator on a tensor with these channels and spatial axes, or why not."""
    if step.root.op_type in WEIGHTED:
        window = _weighted(step)
    elif step.root.op_type == "AveragePool":
        window = _average(step.root, channels)
    else:
        reason = _no_affine(step, channels, axes)
        biased = step.root.op_type != "Mul"
        window = reason or pointwise(channels, channels, axes, group=channels, biased=biased)
    if isinstance(window, Window) and len(window.kernel) != axes:
        return "the ranks differ"
    if isinstance(window, Window) and 0 in (window.inputs, window.outputs):
        return "there are no channels"
    return window


def build(linear: Linear, x: ir.Value, weighted: Match, new: Builder) -> ir.Value:
    """Build the operator: a Conv or Gemm as `weighted` is one, else MatMul and, if it has a bias, Add."""
    node, window, dtype = weighted.root, linear.window, weighted.array("w").dtype
    weights = cast_weights(linear.weights if window.kernel else linear.weights.T, dtype)
    w = new.const(weights, weighted["w"])
    b = new.const(cast_finite(linear.bias, dtype), weighted.get("b")) if window.biased else None
    if node.op_type == "Conv":
        return new.op("Conv", x, w, b, attributes=_attributes(window), like=node)
    if node.op_type == "Gemm":
        return new.op("Gemm", x, w, b, like=node)
    product = new.op("MatMul", x, w, like=node)
    return product if b is None else new.op("Add", product, b)


def _attributes(window: Window) -> Attributes:
    return {
        "kernel_shape": window.kernel,
        "pads": (*window.begin, *window.end),
        "strides": window.strides,
        "dilations": window.dilations,
        "group": window.group,
    }


def _weighted(step: Match) -> Window | str:
    if not is_float(constant_tensor(step["w"]).dtype.numpy()):
        return "the weights are no floats"
    if len(step["w"].uses()) > 1:
        return "the weights are shared"
    if step.root.op_type != "Conv":
        return _product(step)
    dims = _dims(step["w"])
    group = step.root.attributes.get_int("group", 1)
    return _sliding(step.root, dims[0], dims[1] * group, group, dims[2:], biased=step.get("b") is not None)


def _average(node: ir.Node, channels: int) -> Window | str:
    kernel = tuple(node.attributes.get_ints("kernel_shape", ()))
    window = _sliding(node, channels, channels, channels, kernel)
    if isinstance(window, str):
        return window
    counts_padding = not window.is_padded or node.attributes.get_int("count_include_pad", 0) == 1
    if not counts_padding or node.attributes.get_int("ceil_mode", 0) != 0:
        return "AveragePool divides by another number at the border"
    return window


def _sliding(
    node: ir.Node, outputs: int, inputs: int, group: int, kernel: Dims, *, biased: bool = False
) -> Window | str:
    ones = (1,) * len(kernel)
    strides = tuple(node.attributes.get_ints("strides", ones))
    dilations = tuple(node.attributes.get_ints("dilations", ones))
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    pads = tuple(node.attributes.get_ints("pads", (0, 0) * len(kernel)))
    if automatic.startswith("SAME"):
        return "the padding depends on the size of the input"
    if automatic == "VALID":
        pads = (0,) * len(pads)
    if min(pads, default=0) < 0:
        return "a padding is negative"
    begin, end = pads[: len(kernel)], pads[len(kernel) :]
    return Window(outputs, inputs, group, kernel, begin, end, strides, dilations, biased)


def _product(step: Match) -> Window | str:
    dims, node, bias = _dims(step["w"]), step.root, step.get("b")
    if len(dims) != 2:
        return "the weights are not a matrix"
    if node.attributes.get_int("transA", 0):
        return "Gemm transposes its input"
    inputs, outputs = dims[::-1] if node.attributes.get_int("transB", 0) else dims
    sizes = () if bias is None else _dims(bias)
    if math.prod(sizes) not in (1, outputs) or sizes[-1:] not in ((), (math.prod(sizes),)):
        return "the bias is not one number for each column"
    return pointwise(outputs, inputs, 0, biased=bias is not None)


def _no_affine(step: Match, channels: int, axes: int) -> str | None:
    """Return why a BatchNormalization, Add or Mul is no scale and shift of each channel."""
    if step.root.op_type == "BatchNormalization":
        return not_inference(step) if axes else "BatchNormalization has its channels on another axis"
    dims = _dims(step["c"])
    most = axes + 2 if axes else rank(step["x"]) or 1
    padded = (1,) * (most - len(dims)) + dims
    size = padded[len(padded) - axes - 1]
    if step.opset < 7 or len(dims) > most or size not in (1, channels) or math.prod(dims) != size:
        return "the constant is not one per channel"
    return None


def _numbers(step: Match, window: Window) -> Linear:
    if step.root.op_type in WEIGHTED:
        return _weights(step, window)
    shape = (window.outputs, 1, *window.kernel)
    weights, bias = np.ones(shape), np.zeros(window.outputs)
    if step.root.op_type == "BatchNormalization":
        scale, shift = batch_norm_affine(step)
        return Linear(window, scale.reshape(shape), shift)
    if step.root.op_type == "AveragePool":
        return Linear(window, weights / math.prod(window.kernel), bias)
    constant = step.array("c").astype(np.float64).reshape(-1)
    if step.root.op_type == "Mul":
        return Linear(window, weights * constant.reshape(-1, *shape[1:]), bias)
    return Linear(window, weights, bias + constant)


def _weights(step: Match, window: Window) -> Linear:
    attributes, is_gemm = step.root.attributes, step.root.op_type == "Gemm"
    weights, bias = step.array("w").astype(np.float64), np.zeros(window.outputs)
    if not window.kernel and not attributes.get_int("transB", 0):
        weights = weights.T
    if is_gemm:
        weights = weights * attributes.get_float("alpha", 1.0)
    if step.get("b") is not None:
        factor = attributes.get_float("beta", 1.0) if is_gemm else 1.0
        bias = bias + step.array("b").astype(np.float64).reshape(-1) * factor
    return Linear(window, weights, bias)


def _dims(value: ir.Value) -> Dims:
    return tuple(constant_tensor(value).shape.numpy())
