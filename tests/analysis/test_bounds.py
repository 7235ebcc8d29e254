"""How large values can get: whatever is fed stays in the range, and what has none is said to have none."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from fuseonnx.analysis.bounds import ranges_of
from fuseonnx.analysis.intervals import Range
from fuseonnx.analysis.shapes import annotate
from tests.helpers import f32, make_model, node, run_reference

WIDTH = 6
HIDDEN = [node("Gather", "table ids", "x"), node("MatMul", "x w", "h")]
SQUARED = [node("Pow", "h two", "s"), node("ReduceMean", "s last", "a"), node("Add", "a epsilon", "m")]
LARGEST = float(np.finfo(np.float32).max)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "table": f32(rng.normal(scale=3, size=(50, WIDTH))),
        "w": f32(rng.normal(size=(WIDTH, WIDTH))),
        "gamma": f32(rng.uniform(-2, 2, WIDTH)),
        "beta": f32(rng.normal(size=WIDTH)),
        "two": f32(2),
        "three": f32(3),
        "minus": f32(-0.25),
        "positive": f32([[0.5, 1, 2, 3, 4, 5]]),
        "mixed": f32([[-0.5, 1, 2, 3, 4, 5]]),
        "lowest": f32(-LARGEST),
        "infinite": f32(-np.inf),
        "epsilon": f32(1e-6),
        "nothing": f32(0),
        "last": np.array([-1]),
        "first": np.array([0]),
        "index": np.array([0, 2]),
        "sizes": np.array([2, 4]),
        "target": np.array([-1, 3]),
        "flat": np.array([-1, WIDTH]),
    }


def filling(number: float) -> TensorProto:
    return numpy_helper.from_array(f32([number]))


def range_and_values(*nodes: onnx.NodeProto, opset: int = 23) -> tuple[Range | None, np.ndarray]:
    """Return the range found for y, and the values of y over all token ids."""
    all_nodes = [*HIDDEN, *nodes]
    used = {name for each in all_nodes for name in each.input}
    constants = {name: array for name, array in weights().items() if name in used}
    model = make_model(
        all_nodes, {"ids": ["batch", 5]}, ["y"], constants, opset=opset, dtype=TensorProto.INT64
    )
    values = run_reference(model, {"ids": np.arange(50).reshape(10, 5)})["y"]
    graph_model = ir.serde.deserialize_model(model)
    annotate(graph_model)
    output = graph_model.graph.outputs[0]
    return ranges_of([output], graph_model.graph).get(output), values


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", "h", "y")],
        [node("Add", "h beta", "y")],
        [node("Sub", "beta h", "y")],
        [node("Mul", "h minus", "y")],
        [node("Mul", "h h", "y")],
        [node("Div", "h positive", "y")],
        [node("Div", "h minus", "y")],
        [node("Neg", "h", "y")],
        [node("Abs", "h", "y")],
        [node("Relu", "h", "y")],
        [node("Tanh", "h", "y")],
        [node("Erf", "h", "y")],
        [node("Sigmoid", "h", "y")],
        [node("HardSigmoid", "h", "y")],
        [node("Cos", "h", "y")],
        [node("Gelu", "h", "y")],
        [node("Mish", "h", "y")],
        [node("HardSwish", "h", "y")],
        [node("Softmax", "h", "y")],
        [node("Pow", "h two", "y")],
        [node("Pow", "h three", "y")],
        [node("Relu", "h", "r"), node("Sqrt", "r", "y")],
        [node("Max", "h beta minus", "y")],
        [node("Concat", "h x", "y", axis=-1)],
        [node("Split", "h sizes", "s y", axis=-1)],
        [node("Gather", "h index", "y", axis=-1)],
        [node("Transpose", "h", "y")],
        [node("Reshape", "h target", "y")],
        [node("Reshape", "h flat", "f"), node("Gemm", "f w beta", "y", alpha=2.0, beta=0.5, transB=1)],
        [node("Transpose", "h", "t", perm=[0, 2, 1]), node("MatMul", "x t", "y")],
        [
            node("Transpose", "h", "t", perm=[0, 2, 1]),
            node("MatMul", "x t", "s"),
            node("Softmax", "s", "p"),
            node("MatMul", "p h", "y"),
        ],
        [node("LayerNormalization", "h gamma beta", "y")],
        [node("RMSNormalization", "h gamma", "y")],
        [*SQUARED, node("Sqrt", "m", "r"), node("Reciprocal", "r", "i"), node("Mul", "h i", "y")],
        [*SQUARED, node("Sqrt", "m", "r"), node("Reciprocal", "r", "i"), node("Mul", "i h", "y")],
        [*SQUARED, node("Sqrt", "m", "r"), node("Div", "h r", "y")],
        [node("Greater", "h x", "g"), node("Where", "g h beta", "y")],
        [node("Greater", "h x", "g"), node("Cast", "g", "y", to=1)],
        [node("Cast", "ids", "y", to=1)],
        [node("Shape", "h", "s"), node("ConstantOfShape", "s", "y", value=filling(-2.5))],
        [node("Shape", "h", "s"), node("ConstantOfShape", "s", "y")],
    ],
)
def test_all_values_are_in_the_range(nodes: list[onnx.NodeProto]) -> None:
    found, values = range_and_values(*nodes)
    assert found is not None
    assert found.low <= values.min()
    assert values.max() <= found.high


def test_ranges_are_of_use() -> None:
    found, values = range_and_values(node("LayerNormalization", "h gamma beta", "y"))
    assert found is not None
    assert found.magnitude < 10 * np.abs(values).max()
    whole, _ = range_and_values(node("Identity", "h", "y"))
    assert whole is not None
    assert range_and_values(node("Relu", "h", "y"))[0] == (0.0, whole.high)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Exp", "h", "y")],
        [node("Sqrt", "h", "y")],
        [node("Div", "h mixed", "y")],
        [node("Div", "h x", "y")],
        [node("Pow", "h minus", "y")],
        [node("Add", "h infinite", "y")],
        [node("Mul", "h lowest", "y")],
        [node("Add", "h lowest", "a"), node("Add", "a lowest", "y")],
        [node("Sub", "h lowest", "s"), node("LayerNormalization", "s gamma", "y")],
        [*SQUARED, node("Sqrt", "m", "r"), node("Div", "x r", "y")],
        [*SQUARED[:2], node("Add", "a nothing", "m"), node("Sqrt", "m", "r"), node("Div", "h r", "y")],
        [
            SQUARED[0],
            node("ReduceMean", "s first", "a"),
            SQUARED[2],
            node("Sqrt", "m", "r"),
            node("Div", "h r", "y"),
        ],
        [node("Cast", "h", "d", to=11), node("Cast", "d", "y", to=1)],
        [node("Softmax", "h", "p"), node("Div", "p p", "q"), node("Softmax", "q", "y")],
        [node("Shape", "h", "s"), node("ConstantOfShape", "s", "y", value=filling(np.inf))],
        [node("Shape", "h", "s"), node("ConstantOfShape", "s", "y", value=filling(np.nan))],
    ],
)
def test_has_no_range_for_what_may_not_be_finite_or_is_not_known(nodes: list[onnx.NodeProto]) -> None:
    assert range_and_values(*nodes)[0] is None


def test_adding_the_lowest_number_to_small_ones_is_finite() -> None:
    found, values = range_and_values(node("Add", "h lowest", "y"))
    assert found is not None
    assert found.low == -LARGEST == values.min()


def test_reads_no_weight_where_a_float_is_fed() -> None:
    model = make_model([node("MatMul", "x w", "y")], {"x": [3, 128]}, ["y"], {"w": np.zeros((128, 128), "f")})
    graph = ir.serde.deserialize_model(model).graph
    assert ranges_of([graph.outputs[0]], unreadable(graph, "w")) == {}


def unreadable(graph: ir.Graph, name: str) -> ir.Graph:
    """Let it be an error to read a weight."""

    def read() -> ir.TensorProtocol:
        raise AssertionError("the weight was read")

    weight = graph.initializers[name]
    assert weight.dtype is not None and weight.shape is not None
    weight.const_value = ir.LazyTensor(read, dtype=weight.dtype, shape=weight.shape)
    return graph
