"""Shared by the tests of Softmax and LogSoftmax: both spelled out."""

from __future__ import annotations

import numpy as np
import onnx

from tests.helpers import node
from tests.passes.fusions import Spelling

DIMS = ("batch", 5, 8)
ENDS = {  # rule: how the spelling goes on from s = x - max, e = Exp(s) and z = its sum
    "fuse_softmax": (node("Div", "e z", "y"),),
    "fuse_log_softmax": (node("Log", "z", "l"), node("Sub", "s l", "y")),
}
BECOMES = {"fuse_softmax": {"Softmax": 1}, "fuse_log_softmax": {"LogSoftmax": 1}}


def reduce(
    op_type: str, source: str, target: str, axes: list[int], opset: int, **keepdims: int
) -> onnx.NodeProto:
    if opset >= (13 if op_type == "ReduceSum" else 18):
        return node(op_type, f"{source} {'axes' if axes == [-1] else 'others'}", target, **keepdims)
    return node(op_type, source, target, axes=axes, **keepdims)


def spelled(
    rule: str,
    axis: int = -1,
    opset: int = 17,
    *,
    sum_axes: list[int] | None = None,
    max_axes: list[int] | None = None,
) -> Spelling:
    sum_axes, max_axes = sum_axes or [axis], max_axes or [axis]
    nodes = (
        reduce("ReduceMax", "x", "m", max_axes, opset),
        node("Sub", "x m", "s"),
        node("Exp", "s", "e"),
        reduce("ReduceSum", "e", "z", sum_axes, opset),
        *ENDS[rule],
    )
    others = next((axes for axes in (sum_axes, max_axes) if axes != [-1]), [0])
    weights = {"axes": np.array([-1]), "others": np.array(others)}
    used = {name for each in nodes for name in each.input}
    return Spelling(nodes, {name: array for name, array in weights.items() if name in used})
