"""Models that hold one of everything an ONNX file can hold."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def info(name: str, dims: list[int | str | None], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(seed).normal(size=shape).astype(np.float32), name)


def float_data(name: str, *shape: int) -> onnx.TensorProto:
    """A tensor whose elements lie in `float_data`, as some exporters write them."""
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return helper.make_tensor(name, FLOAT, shape, values.ravel().tolist())


def model_of(graph: onnx.GraphProto, *, opset: int = 17, ir_version: int = 10) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def add_model(
    initializer: onnx.TensorProto, dims: list[int | str | None], ir_version: int = 10
) -> onnx.ModelProto:
    """y = x + w."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", initializer.name], ["y"], "add")],
        "g",
        [info("x", dims)],
        [info("y", dims)],
        [initializer],
    )
    return model_of(graph, ir_version=ir_version)


def every_place() -> onnx.ModelProto:
    """Tensors of more than 4 KiB everywhere: raw and float_data, Constant, If bodies, a local function."""
    branches = []
    for name, seed in (("then", 2), ("else", 3)):
        nodes = [helper.make_node("Add", ["s", f"{name}_w"], [f"{name}_y"], f"{name}_add")]
        branches.append(
            helper.make_graph(
                nodes, name, [], [info(f"{name}_y", [40, 40])], [weight(f"{name}_w", 40, 40, seed=seed)]
            )
        )
    nodes = [
        helper.make_node("Constant", [], ["c"], "constant", value=weight("c_value", 40, 40, seed=4)),
        helper.make_node("Add", ["x", "raw"], ["a"], "add_raw"),
        helper.make_node("Mul", ["a", "floats"], ["b"], "mul_floats"),
        helper.make_node("Sub", ["b", "c"], ["d"], "sub_constant"),
        helper.make_node("Shift", ["d"], ["s"], "call", domain="local"),
        helper.make_node("If", ["flag"], ["y"], "if", then_branch=branches[0], else_branch=branches[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", [40, 40]), info("flag", [], TensorProto.BOOL)],
        [info("y", [40, 40])],
        [weight("raw", 40, 40), float_data("floats", 40, 40)],
    )
    shift = helper.make_function(
        "local",
        "Shift",
        ["p"],
        ["q"],
        [
            helper.make_node("Constant", [], ["k"], value=weight("k_value", 40, 40, seed=5)),
            helper.make_node("Add", ["p", "k"], ["q"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[shift])
    onnx.checker.check_model(model)
    return model


def every_place_feeds(flag: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    return {"x": rng.normal(size=(40, 40)).astype(np.float32), "flag": np.array(flag)}
