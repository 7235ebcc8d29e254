"""is_zero: what it says to be zero is, what may not be it leaves alone, and it reads no weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from fuseonnx.analysis.zeros import is_zero
from tests.helpers import f32, make_model, node, run_reference


def filled(number: float, dtype: str = "float32") -> list[onnx.NodeProto]:
    """Nodes that make z, shaped like x."""
    value = numpy_helper.from_array(np.array([number], dtype))
    return [node("Shape", "x", "s"), node("ConstantOfShape", "s", "z", value=value)]


def is_zero_and_values(nodes: list[onnx.NodeProto]) -> tuple[bool, np.ndarray]:
    """Return what is said of y, and its values for an x with zeros and an infinity."""
    known = {
        "half": np.zeros(1, np.float16),
        "halves": np.array([0, 0.5], np.float16),
        "none": f32([0]),
        "one": f32([1]),
        "whole": np.array([0]),
        "sizes": np.array([3, 2]),
        "index": np.array([[0], [1]]),
    }
    used = {name: array for name, array in known.items() if any(name in each.input for each in nodes)}
    model = make_model(nodes, {"x": [3, 2]}, ["y"], used)
    values = run_reference(model, {"x": f32([[0.0, -1.0], [np.inf, 2.0], [1.0, 1.0]])})["y"]
    return is_zero(ir.serde.deserialize_model(model).graph.outputs[0]), values


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", "none", "y")],
        [node("Shape", "x", "s"), node("ConstantOfShape", "s", "y")],
        [*filled(-0.0), node("Neg", "z", "y")],
        [*filled(0, "float16"), node("Cast", "z", "y", to=TensorProto.FLOAT)],
        [node("Cast", "half", "h", to=1), node("Expand", "h sizes", "y")],
        [node("Expand", "none sizes", "e"), node("GatherND", "e index", "y")],
        [*filled(0), node("Flatten", "z", "f"), node("Abs", "f", "y")],
        [*filled(0), node("Expand", "none sizes", "e"), node("Concat", "z e", "y", axis=0)],
        [*filled(0), node("Mul", "z none", "m"), node("Sum", "m none z", "y")],
        [*filled(0), node("Split", "z", "first y", axis=1)],
    ],
    ids=lambda nodes: " ".join(each.op_type for each in nodes),
)
def test_zeros(nodes: list[onnx.NodeProto]) -> None:
    said, values = is_zero_and_values(nodes)
    assert said
    assert values.size and not values.any()


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", "x", "y")],
        [node("Identity", "one", "y")],
        [*filled(1e-40), node("Identity", "z", "y")],
        [*filled(1, "float16"), node("Identity", "z", "y")],
        [*filled(0), node("Add", "z one", "y")],
        [*filled(0), node("Concat", "x z", "y", axis=0)],
        [*filled(0), node("Exp", "z", "y")],
        [node("Mul", "x none", "y")],
        [node("Cast", "halves", "h", to=1), node("Expand", "h sizes", "y")],
    ],
    ids=lambda nodes: " ".join(each.op_type for each in nodes),
)
def test_what_may_not_be_zero(nodes: list[onnx.NodeProto]) -> None:
    said, values = is_zero_and_values(nodes)
    assert not said
    assert values.any()


def test_a_long_chain_is_not_followed_to_its_end() -> None:
    chain = [node("Identity", f"v{i}", f"v{i + 1}") for i in range(5000)]
    nodes = [node("Relu", "zero", "v0"), *chain]
    model = make_model(nodes, {}, ["v5", "v5000"], {"zero": f32([0])})
    near, far = ir.serde.deserialize_model(model).graph.outputs
    assert is_zero(near)
    assert not is_zero(far)


def test_no_weight_is_read() -> None:
    def read() -> ir.TensorProtocol:
        raise AssertionError("the weight was read")

    graph = ir.serde.deserialize_model(
        make_model([node("Transpose", "w", "y")], {}, ["y"], {"w": np.zeros((300, 300), "f")})
    ).graph
    shape = ir.Shape((300, 300))
    graph.initializers["w"].const_value = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=shape)
    assert not is_zero(graph.outputs[0])
