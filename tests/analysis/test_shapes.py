"""Shapes: what onnx infers is noted, and what a file merely declares is not believed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.analysis.shapes import annotate, rank, static_shape
from fuseonnx.core.graph import all_graphs
from tests.helpers import make_model
from tests.io.models import info, model_of


def _annotated(model: onnx.ModelProto) -> dict[str, ir.Value]:
    graph = ir.from_proto(model)
    annotate(graph)
    return {
        value.name or "": value for each in all_graphs(graph) for node in each for value in node.outputs
    } | {value.name or "": value for value in graph.graph.inputs}


def test_static_shapes_agree_with_onnxruntime() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Shape", ["t"], ["s"], start=0, end=1),
        helper.make_node("Concat", ["s", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["t", "target"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["y"], axes=[1]),
    ]
    weights: dict[str, np.ndarray] = {
        "w": rng.normal(size=(6, 4, 3, 3)).astype(np.float32),
        "minus": np.array([-1], np.int64),
    }
    model = make_model(nodes, {"x": [2, 4, 9, 11]}, ["y"], weights)
    values = _annotated(model)
    for name in ("c", "t", "r"):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    x = rng.normal(size=(2, 4, 9, 11)).astype(np.float32)
    for name, array in zip(names, session.run(names, {"x": x}), strict=True):
        assert static_shape(values[name]) == array.shape, name
        assert values[name].dtype == ir.DataType.FLOAT


def test_symbols_survive_and_nameless_dims_are_unrelated() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["z"], ["b"])],
        "g",
        [info("x", ["batch", 3]), info("z", ["?", "?"])],
        [info("a", ["batch", 3]), info("b", ["?", "?"])],
    )
    values = _annotated(model_of(graph))
    a, b = values["a"].shape, values["b"].shape
    assert a is not None and b is not None
    assert [str(a[0]), a[1]] == ["batch", 3]
    assert [getattr(dim, "value", dim) for dim in b] == [None, None]
    assert static_shape(values["a"]) is None
    assert rank(values["b"]) == 2


def test_a_dim_of_minus_one_is_unknown() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", [-1, 3])], [info("y", [-1, 3])]
    )
    values = _annotated(model_of(graph))
    assert static_shape(values["x"]) is None
    assert static_shape(values["y"]) is None
    assert rank(values["y"]) == 2


@pytest.mark.parametrize("declared", [[7, 7], [1, 1, 1]])
def test_stale_declarations_are_not_believed(declared: list[int | str | None]) -> None:
    """`r` cannot be inferred, `a` can; the file is wrong about both."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Reshape", ["a", "s"], ["r"]),
         helper.make_node("Relu", ["r"], ["y"])],
        "g",
        [info("x", [2, 3]), info("s", ["n"], TensorProto.INT64)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        value_info=[info("a", declared), info("r", declared)],
    )  # fmt: skip
    values = _annotated(model_of(graph))
    assert static_shape(values["a"]) == (2, 3)
    assert static_shape(values["r"]) is None
    assert static_shape(values["y"]) is None


def test_what_a_custom_operator_declares_is_all_there_is() -> None:
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["m"], domain="custom"), helper.make_node("Relu", ["m"], ["y"])],
        "g",
        [info("x", [2])],
        [info("y", [5, 4])],
        value_info=[info("m", [5, 4])],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    values = _annotated(helper.make_model(graph, opset_imports=imports, ir_version=10))
    assert static_shape(values["m"]) == static_shape(values["y"]) == (5, 4)


def test_bodies_side_by_side_may_share_names() -> None:
    """`h` has another shape in each branch."""
    bodies = {}
    for name, size in (("then_branch", 2), ("else_branch", 5)):
        width = numpy_helper.from_array(np.ones((3, size), np.float32), "w")
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("ReduceSum", ["h"], ["out"])]
        bodies[name] = helper.make_graph(nodes, name, [], [info("out", [1, 1])], [width])
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], **bodies)],
        "g",
        [info("x", [1, 3]), info("flag", [], TensorProto.BOOL)],
        [info("y", [1, 1])],
    )
    model = ir.from_proto(model_of(graph))
    annotate(model)
    (node,) = model.graph
    shapes = {
        name: static_shape(node.attributes[name].as_graph()[0].outputs[0])
        for name in ("then_branch", "else_branch")
    }
    assert shapes == {"then_branch": (1, 2), "else_branch": (1, 5)}


def test_group_normalizations_keep_type_and_shape() -> None:
    """onnx says nothing of them, nor then of what follows."""

    def normalized(name: str, output: str) -> list[onnx.NodeProto]:
        first = helper.make_node("GroupNormalization", [name, "s", "s"], [f"{output}_g"], num_groups=2)
        return [first, helper.make_node("Relu", [f"{output}_g"], [output])]

    body = helper.make_graph(normalized("a", "b"), "body", [], [info("b", ["n", 4, 3])])
    nodes = [*normalized("x", "a"), helper.make_node("If", ["f"], ["y"], then_branch=body, else_branch=body)]
    inputs = [info("x", ["n", 4, 3]), info("s", [4]), info("f", [], TensorProto.BOOL)]
    model = model_of(helper.make_graph(nodes, "g", inputs, [info("y", ["n", 4, 3])]))
    model.opset_import[0].version = 21
    values = _annotated(model)
    for name in ("a_g", "a", "b_g", "b"):
        assert values[name].dtype == ir.DataType.FLOAT
        assert [getattr(dim, "value", dim) for dim in values[name].shape or ()][1:] == [4, 3]


def test_a_graph_that_onnx_cannot_infer_is_left_without_shapes() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("MatMul", ["a", "z"], ["y"])],
        "g",
        [info("x", [2, 3]), info("z", [7, 5])],
        [info("y", [2, 5])],
        value_info=[info("a", [9, 9])],
    )
    assert static_shape(_annotated(model_of(graph))["a"]) in (None, (2, 3))


def test_annotating_again_learns_only_what_is_new() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Reshape", ["a", "s"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [info("x", [2, 3]), info("s", [1], TensorProto.INT64)], [info("y", ["n"])]
    )
    model = ir.from_proto(model_of(graph))
    assert annotate(model)
    assert not annotate(model)
    constant = ir.Value(
        name="six",
        const_value=ir.tensor(np.array([6], np.int64)),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([1]),
    )
    model.graph.register_initializer(constant)
    model.graph[1].replace_input_with(1, constant)
    assert annotate(model)
    assert static_shape(model.graph.outputs[0]) == (6,)


def test_a_rank_that_onnx_does_not_infer_is_news_too() -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    inputs = [info("x", ["n"]), info("s", [2], TensorProto.INT64)]
    model = ir.from_proto(model_of(helper.make_graph(nodes, "g", inputs, [info("y", ["a", "b"])])))
    model.graph.inputs[1].shape = None
    annotate(model)
    assert rank(model.graph.outputs[0]) is None
    assert not annotate(model)
    model.graph.inputs[1].shape = ir.Shape([2])
    assert annotate(model)
    assert rank(model.graph.outputs[0]) == 2


def test_no_value_at_all() -> None:
    assert static_shape(None) is None
    assert rank(None) is None
    assert rank(ir.Value(name="x")) is None
