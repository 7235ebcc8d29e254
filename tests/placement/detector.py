"""An object detector as exported: backbone, two heads, box decoding, NonMaxSuppression, gathering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
SIZE = 128
OPSET, IR_VERSION = 17, 10


class _Net:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op_type: str, inputs: Sequence[str], name: str, outputs: int = 1, **attributes: Any) -> str:
        results = [name, *(f"{name}:{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(op_type, inputs, results, f"/{name}/{op_type}", **attributes))
        return name

    def weight(self, array: NDArray[Any], name: str) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def floats(self, name: str, *values: float) -> str:
        return self.weight(np.array(values, np.float32), name)

    def ints(self, name: str, *values: int) -> str:
        return self.weight(np.array(values, np.int64), name)

    def conv(self, value: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        shape = (channels[1], channels[0], kernel, kernel)
        weight = self.rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:])).astype("f4")
        bias = self.rng.standard_normal(channels[1]).astype(np.float32)
        inputs = [value, self.weight(weight, f"{name}.weight"), self.weight(bias, f"{name}.bias")]
        return self.add("Conv", inputs, name, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def block(self, value: str, name: str, channels: tuple[int, int]) -> str:
        """Convolution by stride 2, BatchNormalization, SiLU."""
        convolved = self.conv(value, f"{name}.conv", channels, 3, 2)
        moments = {"scale": (0.5, 1.5), "shift": (-1, 1), "mean": (-1, 1), "var": (0.5, 2)}
        parameters = [
            self.weight(self.rng.uniform(*limits, channels[1]).astype(np.float32), f"{name}.{moment}")
            for moment, limits in moments.items()
        ]
        normal = self.add("BatchNormalization", [convolved, *parameters], f"{name}.bn")
        return self.add("Mul", [normal, self.add("Sigmoid", [normal], f"{name}.gate")], name)


def detector(batch: int | str = 1) -> onnx.ModelProto:
    """Return the detector: image [batch, 3, 128, 128] to detected boxes [n, 4], scores [n], classes [n]."""
    net = _Net()
    value, maps = "image", []
    for number, channels in enumerate([(3, 16), (16, 32), (32, 64), (64, 64)]):
        value = net.block(value, f"backbone{number}", channels)
        maps.append(value)
    rows = [_head(net, maps[2], 0, 16), _head(net, maps[3], 1, 8)]
    boxes, scores = _decode(net, net.add("Concat", rows, "predictions", axis=1))
    _select(net, boxes, scores)
    outputs = {
        "boxes": (TensorProto.FLOAT, 4),
        "scores": (TensorProto.FLOAT,),
        "classes": (TensorProto.INT64,),
    }
    graph = helper.make_graph(
        net.nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, kind, ["n", *dims]) for name, (kind, *dims) in outputs.items()],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _head(net: _Net, value: str, number: int, size: int) -> str:
    """Return a head's rows [batch, size * size, 4 + CLASSES], by the shape that PyTorch would compute."""
    name = f"head{number}"
    raw = net.conv(value, f"{name}.conv", (64, 4 + CLASSES), 1)
    batch = net.add("Gather", [net.add("Shape", [raw], f"{name}.shape"), "zero"], f"{name}.batch", axis=0)
    length = net.ints(f"{name}.length", 4 + CLASSES, size * size)
    target = net.add("Concat", [batch, length], f"{name}.target", axis=0)
    flat = net.add("Reshape", [raw, target], f"{name}.flat")
    return net.add("Transpose", [flat], f"{name}.rows", perm=[0, 2, 1])


def _decode(net: _Net, rows: str) -> tuple[str, str]:
    """Return corners [batch, n, 4] and scores [batch, CLASSES, n]."""
    net.ints("zero", 0)
    net.add("Split", [rows, net.ints("parts", 2, 2, CLASSES)], "centre", 3, axis=2)
    grids = [np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2) for size in (16, 8)]
    strides = np.concatenate([np.full((16 * 16, 1), 8), np.full((8 * 8, 1), 16)]).astype(np.float32)
    grid = net.weight(np.concatenate(grids).astype(np.float32), "grid")
    stride = net.weight(strides, "stride")
    centre = net.add("Mul", [net.add("Add", ["centre", grid], "cell"), stride], "middle")
    extent = net.add("Mul", [net.add("Exp", ["centre:1"], "extent"), stride], "sides")
    half = net.add("Mul", [extent, net.floats("half", 0.5)], "halves")
    corners = [net.add("Sub", [centre, half], "low"), net.add("Add", [centre, half], "high")]
    boxes = net.add("Concat", corners, "corners", axis=2)
    scores = net.add("Sigmoid", ["centre:2"], "probabilities")
    return boxes, net.add("Transpose", [scores], "by_class", perm=[0, 2, 1])


def _select(net: _Net, boxes: str, scores: str) -> None:
    """Put out what NonMaxSuppression selects."""
    limits = [net.ints("most", 20), net.floats("overlap", 0.5), net.floats("threshold", 0.6)]
    found = net.add("NonMaxSuppression", [boxes, scores, *limits], "selected")
    columns = net.ints("box_columns", 0, 2)
    net.add("GatherND", [boxes, net.add("Gather", [found, columns], "box_of", axis=1)], "boxes")
    net.add("GatherND", [scores, found], "scores")
    net.add("Gather", [found, net.weight(np.array(1), "class_column")], "classes", axis=1)


def images(batch: int = 1) -> NDArray[Any]:
    """Return images to detect something in."""
    return np.random.default_rng(1).standard_normal((batch, 3, SIZE, SIZE)).astype(np.float32)
