"""Forms of the same computation on images as models of their own, for tools/bench_forms.py to time.

Each function opens one form: with `new` the first one that the title of its table names, else the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime

from tools.form_nets import Net, f32

TO_CHANNELS_FIRST = [0, 3, 1, 2]
PIXELS = [2, 3]
BLOCK = 2
"""Rows and columns of the result for each of the input."""


def inverted_bottleneck(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Conv 1×1 to so many channels, Relu, depthwise Conv 3×3, Relu and Conv 1×1; channels padded or not."""
    net = Net(1, 32, size, size)
    more = (0, -channels % 4 if new else 0)
    widen, filters = net.random(channels, 32, 1, 1), net.random(channels, 1, 3, 3)
    narrow = net.random(32, channels, 1, 1)
    none = (0, 0)
    (value,) = net.op("Conv", "x", np.pad(widen, (more, none, none, none)))
    (value,) = net.op("Relu", value)
    (value,) = _depthwise(net, value, np.pad(filters, (more, none, none, none)))
    (value,) = net.op("Relu", value)
    return net.session(net.op("Conv", value, np.pad(narrow, (none, more, none, none)))[0])


def times_number(dims: Sequence[int], *, new: bool) -> onnxruntime.InferenceSession:
    """Mul by a number of the same rank, or by a scalar."""
    net = Net(*dims)
    return net.session(net.op("Mul", "x", f32(2.5).reshape([1] * len(dims) if new else []))[0])


def add_by_channel(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Transpose to channels first, before or after Add of a constant by channel."""
    net, value = Net(1, size, size, channels), "x"
    constant = net.random(channels)
    if not new:
        (value,) = net.op("Add", value, constant)
    (value,) = net.op("Transpose", value, perm=TO_CHANNELS_FIRST)
    return net.session(net.op("Add", value, constant.reshape(-1, 1, 1))[0] if new else value)


def gated_sum(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """x·(g + 1) or x + x·g; the gate is a pixel of x, which costs next to nothing."""
    net = Net(1, channels, size, size)
    (gate,) = net.op("Slice", "x", np.array([0, 0]), np.array([1, 1]), np.array(PIXELS))
    if new:
        return net.session(net.op("Mul", "x", net.op("Add", gate, f32(1))[0])[0])
    return net.session(net.op("Add", "x", net.op("Mul", "x", gate)[0])[0])


def normalized_groups(channels: int, groups: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """InstanceNormalization of the groups and BatchNormalization, or GroupNormalization; SiLU after it."""
    net = Net(1, channels, size, size, opset=21)
    scale, bias = net.random(channels) + 1, net.random(channels)
    if new:
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        (value,) = net.op("Reshape", "x", np.array([0, groups, -1, 0]))
        (value,) = net.op("InstanceNormalization", value, ones, zeros)
        (value,) = net.op("Reshape", value, np.array([0, channels, -1, size]))
        mean, variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        (value,) = net.op("BatchNormalization", value, scale, bias, mean, variance, epsilon=0.0)
    else:
        (value,) = net.op("GroupNormalization", "x", scale, bias, num_groups=groups)
    return net.session(net.op("Mul", value, net.op("Sigmoid", value)[0])[0])


def mish(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Mish as a quotient, or by Softplus and Tanh."""
    net = Net(1, channels, size, size)
    if not new:
        return net.session(net.op("Mul", "x", net.op("Tanh", net.op("Softplus", "x")[0])[0])[0])
    (value,) = net.op("Clip", "x", "", f32(20))
    (value,) = net.op("Exp", value)
    (value,) = net.op("Mul", value, net.op("Add", value, f32(2))[0])
    (value,) = net.op("Div", value, net.op("Add", value, f32(2))[0])
    return net.session(net.op("Mul", "x", value)[0])


def layers_of_pixels(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """After a Conv, two layers, HardSwish between, and a residual Add: by Conv 1×1, or by Gemm on pixels."""
    net = Net(1, channels, size, size)
    (value,) = net.op("Conv", "x", net.random(channels, channels, 1, 1))
    weights = [net.random(2 * channels, channels), net.random(channels, 2 * channels)]
    biases = [net.random(2 * channels), net.random(channels)]
    if not new:
        (value,) = net.op("Transpose", value, perm=[0, 2, 3, 1])
        (value,) = net.op("Reshape", value, np.array([-1, channels]))
    rows = value
    for weight, bias, last in zip(weights, biases, (False, True), strict=True):
        if new:
            (value,) = net.op("Conv", value, weight[:, :, None, None], bias)
        else:
            (value,) = net.op("Gemm", value, weight, bias, transB=1)
        if not last:
            (value,) = net.op("Mul", value, net.op("HardSigmoid", value, alpha=1 / 6, beta=0.5)[0])
    (value,) = net.op("Add", value, rows)
    if new:
        (value,) = net.op("Transpose", value, perm=[0, 2, 3, 1])
        (value,) = net.op("Reshape", value, np.array([-1, channels]))
    return net.session(value)


def squeezed_by_gemm(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Squeeze-and-excitation with Gemms or with Convs."""
    net, value = _before_gate(channels, size)
    gate = (_gate_by_gemms if new else _gate_by_convs)(net, _pooled(net, value, new=True), channels)
    return _after_gate(net, value, gate, channels)


def gate_spread(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Squeeze-and-excitation of which the gate gets the size of what it multiplies, or broadcasts."""
    net, value = _before_gate(channels, size)
    gate = _gate_by_convs(net, _pooled(net, value, new=True), channels)
    if new:
        (gate,) = net.op(
            "Resize",
            gate,
            "",
            np.array([1, 1, size, size], np.float32),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    return _after_gate(net, value, gate, channels)


def gate_in_weights(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Squeeze-and-excitation of which the gate scales the weights of the next Conv, or what that takes."""
    net, value = _before_gate(channels, size)
    gate = _gate_by_convs(net, _pooled(net, value, new=True), channels)
    few = channels // 4
    weight = net.random(few, channels)
    if new:
        (row,) = net.op("Reshape", gate, np.array([1, 1, channels]))
        (scaled,) = net.op("Mul", weight, row)
        (pixels,) = net.op("Reshape", value, np.array([1, channels, size * size]))
        (value,) = net.op("MatMul", scaled, pixels)
        (value,) = net.op("Reshape", value, np.array([1, few, size, size]))
    else:
        (product,) = net.op("Mul", value, gate)
        (value,) = net.op("Conv", product, weight[:, :, None, None])
    return net.session(net.op("Conv", value, net.random(channels, few, 1, 1))[0])


def squeezed_by_pool(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Squeeze-and-excitation with GlobalAveragePool or with ReduceMean."""
    net, value = _before_gate(channels, size)
    gate = _gate_by_convs(net, _pooled(net, value, new=new), channels)
    return _after_gate(net, value, gate, channels)


def pooled_input(channels: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """GlobalAveragePool or ReduceMean of x itself."""
    net = Net(1, channels, size, size)
    return net.session(_pooled(net, "x", new=new))


def enlarged(channels: int, outputs: int, size: int, *, new: bool) -> onnxruntime.InferenceSession:
    """Conv 1×1, then Conv 1×1 and DepthToSpace, or ConvTranspose with a kernel as large as its stride."""
    net = Net(1, channels, size, size)
    (value,) = net.op("Conv", "x", net.random(channels, channels, 1, 1))
    weight, bias = net.random(channels, outputs, BLOCK, BLOCK), net.random(outputs)
    if not new:
        return net.session(net.op("ConvTranspose", value, weight, bias, strides=[BLOCK] * 2)[0])
    moved = weight.transpose(1, 2, 3, 0).reshape(-1, channels, 1, 1)
    (value,) = net.op("Conv", value, moved, np.repeat(bias, BLOCK**2))
    return net.session(net.op("DepthToSpace", value, blocksize=BLOCK, mode="CRD")[0])


def _depthwise(net: Net, value: str, filters: np.ndarray) -> list[str]:
    return net.op("Conv", value, filters, group=len(filters), pads=[1] * 4)


def _before_gate(channels: int, size: int) -> tuple[Net, str]:
    """As in MobileNetV3 and EfficientNet, what is gated comes from a depthwise Conv."""
    net = Net(1, channels, size, size)
    (value,) = _depthwise(net, "x", net.random(channels, 1, 3, 3))
    return net, net.op("Relu", value)[0]


def _pooled(net: Net, value: str, *, new: bool) -> str:
    if new:
        return net.op("GlobalAveragePool", value)[0]
    return net.op("ReduceMean", value, axes=PIXELS, keepdims=1)[0]


def _gate_by_convs(net: Net, pooled: str, channels: int) -> str:
    first, second = _layers(net, channels)
    (gate,) = net.op("Conv", pooled, first[0][:, :, None, None], first[1])
    (gate,) = net.op("Conv", net.op("Relu", gate)[0], second[0][:, :, None, None], second[1])
    return net.op("Sigmoid", gate)[0]


def _gate_by_gemms(net: Net, pooled: str, channels: int) -> str:
    (gate,) = net.op("Flatten", pooled)
    first, second = _layers(net, channels)
    (gate,) = net.op("Gemm", gate, first[0], first[1], transB=1)
    (gate,) = net.op("Gemm", net.op("Relu", gate)[0], second[0], second[1], transB=1)
    (gate,) = net.op("Sigmoid", gate)
    return net.op("Unsqueeze", gate, np.array(PIXELS))[0]


def _layers(net: Net, channels: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights [outputs, inputs] and biases to a quarter of the channels and back."""
    few = channels // 4
    sizes = ((few, channels), (channels, few))
    return [(net.random(*size), net.random(size[0])) for size in sizes]


def _after_gate(net: Net, value: str, gate: str, channels: int) -> onnxruntime.InferenceSession:
    (product,) = net.op("Mul", value, gate)
    return net.session(net.op("Conv", product, net.random(channels // 4, channels, 1, 1))[0])
