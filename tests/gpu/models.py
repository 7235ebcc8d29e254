"""Small models of the three kinds that GPUs run: a convolutional net, a transformer's block, an LSTM."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, np.ndarray]
Dims = list[int | str]


def cnn(batch: int | str = "batch", channels: int = 16, size: int = 32) -> onnx.ModelProto:
    """Conv, BatchNormalization (random statistics) and Relu, twice, then a classifier of 10 classes."""
    rng = np.random.default_rng(0)
    weights: Weights = {}
    nodes, value = [], "image"
    for number, inputs in enumerate((3, channels)):
        weights[f"w{number}"] = _normal(rng, channels, inputs, 3, 3)
        for kind in "sbm":
            weights[f"{kind}{number}"] = _normal(rng, channels)
        weights[f"v{number}"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        norm = [f"conv{number}", *(f"{kind}{number}" for kind in "sbmv")]
        nodes += [
            helper.make_node("Conv", [value, f"w{number}"], [f"conv{number}"], f"Conv{number}", pads=[1] * 4),
            helper.make_node("BatchNormalization", norm, [f"norm{number}"], f"Norm{number}"),
            helper.make_node("Relu", [f"norm{number}"], [f"relu{number}"], f"Relu{number}"),
        ]
        value = f"relu{number}"
    weights["classes"] = _normal(rng, channels, 10)
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"], "Pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "Flatten"),
        helper.make_node("MatMul", ["flat", "classes"], ["scores"], "Classes"),
    ]
    return _model(nodes, {"image": [batch, 3, size, size]}, {"scores": [batch, 10]}, weights)


def transformer(heads: int = 4, width: int = 64) -> onnx.ModelProto:
    """LayerNormalization, attention, and a residual on [batch, tokens, width]; shapes are computed inside."""
    rng = np.random.default_rng(1)
    weights: Weights = {name: _normal(rng, width, width) for name in ("wq", "wk", "wv", "wo")}
    weights |= {"scale": _normal(rng, width), "bias": _normal(rng, width)}
    weights |= {"root": np.full(1, (width / heads) ** -0.5, np.float32), "rest": _ints(heads, width // heads)}
    weights |= {"start": _ints(0), "end": _ints(2), "joined": _ints(0, 0, -1)}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["norm"], "Norm", axis=-1),
        helper.make_node("Shape", ["x"], ["shape"], "Shape"),
        helper.make_node("Slice", ["shape", "start", "end"], ["leading"], "Leading"),
        helper.make_node("Concat", ["leading", "rest"], ["split"], "Split", axis=0),
    ]
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["norm", f"w{name}"], [f"{name}0"], f"{name}_proj"),
            helper.make_node("Reshape", [f"{name}0", "split"], [f"{name}1"], f"{name}_split"),
            helper.make_node("Transpose", [f"{name}1"], [f"{name}2"], f"{name}_heads", perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["q2", "k2"], ["alike"], "Alike"),
        helper.make_node("Mul", ["alike", "root"], ["scaled"], "Scaled"),
        helper.make_node("Softmax", ["scaled"], ["attention"], "Attention", axis=-1),
        helper.make_node("MatMul", ["attention", "v2"], ["mixed"], "Mixed"),
        helper.make_node("Transpose", ["mixed"], ["turned"], "Turned", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "joined"], ["whole"], "Whole"),
        helper.make_node("MatMul", ["whole", "wo"], ["out"], "Out"),
        helper.make_node("Add", ["x", "out"], ["y"], "Residual"),
    ]
    shape: Dims = ["batch", "tokens", width]
    return _model(nodes, {"x": shape}, {"y": shape}, weights)


def lstm(width: int = 16) -> onnx.ModelProto:
    """A bidirectional LSTM and a projection on [steps, batch, width]."""
    rng = np.random.default_rng(2)
    weights: Weights = {
        "w": _normal(rng, 2, 4 * width, width),
        "r": _normal(rng, 2, 4 * width, width),
        "b": _normal(rng, 2, 8 * width),
        "p": _normal(rng, 2 * width, width),
        "joined": _ints(0, 0, 2 * width),
    }
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w", "r", "b"], ["states"], "Lstm", hidden_size=width, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["states"], ["turned"], "Turned", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "joined"], ["both"], "Both"),
        helper.make_node("MatMul", ["both", "p"], ["y"], "Projection"),
    ]
    shape: Dims = ["steps", "batch", width]
    return _model(nodes, {"x": shape}, {"y": shape}, weights)


def determinant() -> onnx.ModelProto:
    """A matrix product and its determinant, an operator that only the CPU has."""
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["square"], "Square"),
        helper.make_node("Det", ["square"], ["y"], "Det"),
    ]
    return _model(nodes, {"x": ["n", 3, 3]}, {"y": ["n"]}, {})


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw weights of a size that keeps values near 1 through a layer."""
    fan_in = int(np.prod(shape[1:])) or 1
    return rng.normal(scale=fan_in**-0.5, size=shape).astype(np.float32)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims],
    weights: Weights,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "gpu",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    return model
