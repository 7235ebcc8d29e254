"""What random models found wrong, each as the smallest model that shows it; see tools/fuzz.py."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers import assert_same_answers, batch_norm_weights, make_model, rewrite

WEIGHT = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("opset", [9, 13, 15])
def test_constant_batch_normalization_is_inference(opset: int) -> None:
    # onnx.reference runs it in training mode before opset 14.
    nodes = [
        helper.make_node("BatchNormalization", ["w", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    model = make_model(nodes, {"x": [2, 3, 4]}, ["y"], {"w": WEIGHT, **batch_norm_weights(3)}, opset=opset)
    assert_same_answers(model, rewrite(model).model)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_constant_softmax_is_over_all_axes_from_its_own_before_opset_13(opset: int, axis: int) -> None:
    nodes = [helper.make_node("Softmax", ["w"], ["s"], axis=axis), helper.make_node("Mul", ["x", "s"], ["y"])]
    model = make_model(nodes, {"x": [2, 3, 4]}, ["y"], {"w": WEIGHT}, opset=opset)
    assert_same_answers(model, rewrite(model).model)


@pytest.mark.parametrize("axes", [[-4, -1], [-2, -1], [-5, -3], [1, -1]])
def test_constant_unsqueeze_with_negative_axes_before_opset_13(axes: list[int]) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["w"], ["u"], axes=axes),
        helper.make_node("Add", ["x", "u"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 1, 1, 1, 1]}, ["y"], {"w": WEIGHT}, opset=11)
    assert_same_answers(model, rewrite(model).model, {"x": np.ones((1, 1, 1, 1, 1), np.float32)})


@pytest.mark.parametrize("ir_version", [3, 8])
def test_bodies_before_ir_4_keep_their_constants(ir_version: int) -> None:
    # An initializer of such a body would have to be one of its inputs.
    def branch(name: str, value: float) -> onnx.GraphProto:
        constant = numpy_helper.from_array(np.array([value, 2], dtype=np.float32))
        nodes = [
            helper.make_node("Constant", [], [f"{name}_a"], value=constant),
            helper.make_node("Abs", [f"{name}_a"], [f"{name}_b"]),
            helper.make_node("Mul", ["x", f"{name}_b"], [f"{name}_y"]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", 1, ["n", 2])])

    node = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("then", -3), else_branch=branch("else", -4)
    )
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 2]), helper.make_tensor_value_info("flag", 9, [])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, ["n", 2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=ir_version)
    after = rewrite(model)
    for flag in (True, False):
        feeds = {"x": np.array([[1, -2]], dtype=np.float32), "flag": np.array(flag)}
        assert_same_answers(model, after.model, feeds)
    assert after.ops.get("Abs", 0) == 0


def test_a_constant_node_may_be_a_part_of_a_reshape_target() -> None:
    # It has no input; as a graph output it stays a node.
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1]))),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "one", "four"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "first": np.array([1]), "four": np.array([4])}
    model = make_model(nodes, {"x": ["batch", 4]}, ["y", "one"], weights)
    after = rewrite(model)
    assert after.fired["fold_reshape_target"] == 1
    assert_same_answers(model, after.model)


def test_what_is_known_of_a_value_goes_when_its_layout_changes() -> None:
    # The dims of the Slice were still those that it had after the Transpose.
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["t", "starts", "ends", "axes"], ["y"]),
    ]
    weights = {"starts": np.array([-1, 0]), "ends": np.array([-(2**31), 2]), "axes": np.array([1, 2])}
    weights["steps"] = np.array([-1, 2])
    nodes[1].input.append("steps")
    model = make_model(nodes, {"x": ["batch", 2, 3]}, ["y"], weights)
    assert_same_answers(model, rewrite(model).model)


def test_a_constant_that_alone_has_the_rank_keeps_it() -> None:
    # The transposed [2, 1] was trimmed to [2], and the sum with [1] was of rank 1.
    nodes = [
        helper.make_node("Add", ["v", "c"], ["a"]),
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("Gemm", ["t", "w", "b"], ["y"]),
    ]
    weights = {"c": WEIGHT[0, :2, :1], "b": WEIGHT[0, 0, :3]}
    model = make_model(nodes, {"v": [1], "w": [2, 3]}, ["y"], weights)
    assert_same_answers(model, rewrite(model).model)


def test_a_transpose_between_two_values_of_one_region() -> None:
    # Relu took the other layout, and Add read it as if it had not.
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[2, 1, 0]),
        helper.make_node("Add", ["x", "t"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[2, 1, 0]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 2, "batch"]}, ["y"])
    assert_same_answers(model, rewrite(model).model)


def test_types_before_ir_4_are_inferred() -> None:
    # onnx takes initializers for undefined there unless they are inputs too, and infers nothing from them.
    nodes = [
        helper.make_node("Add", ["x", "one"], ["a"]),
        helper.make_node("Min", ["a", "six"], ["b"]),
        helper.make_node("Max", ["b", "zero"], ["y"]),
    ]
    weights = {name: np.array(value, np.float32) for name, value in (("one", 1), ("six", 6), ("zero", 0))}
    model = make_model(nodes, {"x": [2, 3]}, ["y"], weights, opset=9, overridable=list(weights))
    model.ir_version = 3
    after = rewrite(model)
    assert after.ops == {"Add": 1, "Clip": 1}
    assert_same_answers(model, after.model, {"x": WEIGHT[0, :2, :3]})


def test_a_transpose_of_unit_axes_costs_the_same_seen_from_either_side() -> None:
    # Seen from one side it looked dearer than from the other, so that it moved up and down for ever.
    nodes = [
        helper.make_node("Concat", ["x", "x", "x"], ["c"], axis=1),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[1, 0, 2, 3]),
        helper.make_node("Split", ["u"], ["y", "z"], axis=3, split=[1, 1]),
    ]
    model = make_model(nodes, {"x": ["n", 1, 2, 1]}, ["y"], opset=9)
    after = rewrite(model)
    assert rewrite(after.model).fired == {}
    assert_same_answers(model, after.model)


def test_a_float_attribute_of_a_new_node_is_what_the_file_will_hold() -> None:
    # 1/6 had 64 bits until it was saved, and differed from the 1/6 of a node that had been loaded.
    nodes = [
        helper.make_node("HardSigmoid", ["x"], ["gate"], alpha=1 / 6, beta=0.5),
        helper.make_node("Add", ["x", "three"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["c"]),
        helper.make_node("Div", ["c", "six"], ["d"]),
        helper.make_node("Max", ["d", "gate"], ["y"]),
    ]
    weights = {name: np.array(value, np.float32) for name, value in (("zero", 0), ("three", 3), ("six", 6))}
    model = make_model(nodes, {"x": [2, 3]}, ["y"], weights)
    after = rewrite(model)
    assert after.ops == {"HardSigmoid": 1, "Max": 1}
    assert_same_answers(model, after.model, rtol=1e-6)


@pytest.mark.parametrize(("inner", "middle", "outer"), [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_two_products_without_numbers_are_not_one(inner: int, middle: int, outer: int) -> None:
    # numpy reshapes no array of nothing to -1.
    nodes = [helper.make_node("MatMul", ["x", "v"], ["p"]), helper.make_node("MatMul", ["p", "w"], ["y"])]
    weights = {"v": np.ones((inner, middle), np.float32), "w": np.ones((middle, outer), np.float32)}
    model = make_model(nodes, {"x": ["n", inner]}, ["y"], weights)
    after = rewrite(model)
    assert after.ops == {"MatMul": 2}
    assert_same_answers(model, after.model, {"x": np.ones((2, inner), np.float32)})


@pytest.mark.parametrize("start", [-3, -4, -99, -(2**63)])
def test_a_slice_that_counts_down_from_before_the_axis_takes_its_first_entry(start: int) -> None:
    # Python takes nothing: of a constant, and of the result of another Slice.
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axis", "step"], ["s"]),
        helper.make_node("Slice", ["s", "start", "end", "axis", "step"], ["y"]),
        helper.make_node("Slice", ["w", "start", "end", "axis", "step"], ["v"]),
        helper.make_node("Concat", ["x", "v"], ["z"], axis=2),
    ]
    bounds = {"start": [start], "end": [-(2**31)], "axis": [2], "step": [-1]}
    weights = {name: np.array(each) for name, each in bounds.items()}
    model = make_model(nodes, {"x": [2, 3, 3]}, ["y", "z"], {"w": WEIGHT[:, :, :3], **weights})
    after = rewrite(model)
    assert after.fired["merge_slices"] == 1
    assert_same_answers(model, after.model, {"x": WEIGHT[:, :, 1:]})


def test_the_mean_of_nothing() -> None:
    # NaN in numpy, 0 in onnxruntime.
    nodes = [
        helper.make_node("ReduceMean", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    model = make_model(nodes, {"x": [2, 3]}, ["y"], {"w": WEIGHT[:, :0]})
    assert_same_answers(model, rewrite(model).model)
