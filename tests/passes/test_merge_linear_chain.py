"""merge_linear_chain: what fires, and each precondition broken once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes import folds
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "merge_linear_chain"
DIMS = ("batch", 4, 7, 8)


def convs(
    first: tuple[int, ...],
    second: tuple[int, ...],
    *,
    biases: str = "ab",
    one: dict[str, Any] | None = None,
    two: dict[str, Any] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """Two Convs in a row; `biases` names those that have one."""
    one, two = {"pads": [k // 2 for k in first[2:]] * 2, **(one or {})}, two or {}
    weights = {"v": normal(*first), "w": normal(*second)}
    inputs = {each: [each] if each in biases else [] for each in "ab"}
    weights |= {
        each: normal(size) for each, size in zip("ab", (first[0], second[0]), strict=True) if inputs[each]
    }
    nodes = [
        helper.make_node("Conv", ["x", "v", *inputs["a"]], ["c"], **one),
        helper.make_node("Conv", ["c", "w", *inputs["b"]], ["y"], name="last", **two),
    ]
    return model_of([*nodes, *options.pop("more", [])], options.pop("dims", DIMS), weights, **options)


@pytest.mark.parametrize("biases", ["", "a", "b", "ab"])
def test_fires_on_a_conv_before_a_pointwise_one(biases: str) -> None:
    after = assert_becomes(convs((8, 4, 3, 3), (6, 8, 1, 1), biases=biases), RULE, {"Conv": 1})
    assert after.model.graph.node[0].name == "last"
    assert len(after.model.graph.node[0].input) == (3 if biases else 2)


@pytest.mark.parametrize(
    ("first", "second", "one", "two"),
    [
        ((8, 4, 1, 1), (4, 8, 1, 1), {}, {}),
        ((8, 4, 3, 3), (6, 8, 1, 1), {"strides": [2, 1], "dilations": [1, 2]}, {"strides": [1, 2]}),
        ((6, 4, 1, 1), (6, 6, 3, 3), {}, {"strides": [2, 1], "dilations": [2, 1]}),
        ((4, 1, 3, 3), (4, 1, 1, 1), {"group": 4}, {"group": 4}),
        ((8, 2, 3, 3), (6, 4, 1, 1), {"group": 2}, {"group": 2}),
        ((6, 4, 3, 3), (6, 1, 1, 1), {}, {"group": 6}),
        ((4, 1, 1, 1), (6, 4, 3, 3), {"group": 4}, {}),
    ],
)
def test_fires_on_any_geometry(
    first: tuple[int, ...], second: tuple[int, ...], one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert_becomes(convs(first, second, one=one, two=two), RULE, {"Conv": 1})


def test_fires_on_a_pointwise_conv_without_bias_before_a_padded_one() -> None:
    model = convs((6, 4, 1, 1), (6, 6, 3, 3), biases="b", two={"pads": [1, 2, 0, 1]})
    assert_becomes(model, RULE, {"Conv": 1})


def test_fires_in_one_dimension() -> None:
    assert_becomes(convs((8, 4, 3), (6, 8, 1), dims=("batch", 4, 9)), RULE, {"Conv": 1})


def products(
    *widths: int, bias: str = "", dims: tuple[Any, ...] = ("batch", 3, 8), **options: Any
) -> onnx.ModelProto:
    """Products in a row, of which those in `bias` are followed by an Add."""
    nodes, weights, value = [], {}, "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(widths)):
        weights[f"w{index}"] = normal(rows, columns)
        nodes.append(node("MatMul", f"{value} w{index}", f"p{index}"))
        value = f"p{index}"
        if str(index) in bias:
            weights[f"b{index}"] = normal(columns)
            nodes.append(node("Add", f"b{index} {value}", f"s{index}"))
            value = f"s{index}"
    nodes[-1].output[0] = "y"
    return model_of([*nodes, *options.pop("more", [])], dims, weights, **options)


@pytest.mark.parametrize("dims", [("batch", 8), ("batch", 3, 8), (8,)], ids=str)
def test_fires_on_products(dims: tuple[Any, ...]) -> None:
    assert_becomes(products(8, 8, 6, dims=dims), RULE, {"MatMul": 1})


def test_fires_on_three_products() -> None:
    assert_becomes(products(8, 8, 8, 6), RULE, {"MatMul": 1}, times=2)


def test_carries_a_bias_between_the_products() -> None:
    assert_becomes(products(8, 8, 6, bias="0"), RULE, {"MatMul": 1, "Add": 1})
    assert_becomes(products(8, 8, 6, bias="01"), RULE, {"MatMul": 1, "Add": 2})


def test_carries_a_factor_between_the_products() -> None:
    model = products(8, 8, 6)
    model.graph.node.insert(1, node("Mul", "p0 half", "h"))
    model.graph.node[2].input[0] = "h"
    model.graph.initializer.append(onnx.numpy_helper.from_array(f32(0.5), "half"))
    assert_becomes(model, RULE, {"MatMul": 1})


@pytest.mark.parametrize(
    ("first", "second"), [("Gemm", "Gemm"), ("Gemm", "MatMul"), ("MatMul", "Gemm"), ("Biased", "Gemm")]
)
def test_fires_on_gemm(first: str, second: str) -> None:
    weights = {"v": normal(8, 8), "a": normal(1, 8), "w": normal(6, 8), "b": normal(6)}
    nodes = {
        "Gemm": [node("Gemm", "x v a", "c", alpha=0.5, beta=3.0)],
        "MatMul": [node("MatMul", "x v", "c")],
        "Biased": [node("MatMul", "x v", "p"), node("Add", "p a", "c")],
    }[first]
    if second == "Gemm":
        nodes.append(node("Gemm", "c w b", "y", transB=1, beta=0.5))
    else:
        nodes.append(node("MatMul", "c w", "y"))
        weights["w"] = weights["w"].T.copy()
    used = {name for each in nodes for name in each.input}
    model = model_of(nodes, ("batch", 8), {name: each for name, each in weights.items() if name in used})
    assert_becomes(model, RULE, {"Gemm": 1})


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(TensorProto.FLOAT16, 2e-2), (TensorProto.DOUBLE, 1e-5), (TensorProto.BFLOAT16, 0.1)],
)
def test_new_weights_keep_the_dtype(dtype: int, rtol: float) -> None:
    model = convs((8, 4, 3, 3), (6, 8, 1, 1), dtype=dtype, opset=22)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {dtype}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model), rtol=rtol)


def test_fires_in_both_branches_of_an_if_and_in_a_function() -> None:
    model = folds.in_branches(convs((8, 4, 3, 3), (6, 8, 1, 1)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)
    model = folds.in_function(convs((8, 4, 3, 3), (6, 8, 1, 1)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


COSTS_MORE = "one operator would multiply more"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (convs((2, 4, 1, 1), (8, 2, 1, 1)), COSTS_MORE),  # a bottleneck
        (convs((4, 1, 3, 3), (6, 4, 1, 1), one={"group": 4}), COSTS_MORE),  # separable
        (products(8, 2, 8), COSTS_MORE),
        (convs((4, 4, 3, 3), (4, 4, 3, 3)), "neither of the two looks at one position only"),
        (
            convs((4, 4, 1, 1), (4, 4, 3, 3), one={"strides": [2, 2]}),
            "neither of the two looks at one position only",
        ),
        (
            convs((4, 4, 3, 3), (4, 4, 1, 1), two={"pads": [1] * 4}),
            "neither of the two looks at one position only",
        ),
        (convs((8, 4, 3, 3), (6, 4, 1, 1), two={"group": 2}), "the groups differ"),
        (
            convs((4, 4, 1, 1), (4, 4, 3, 3), two={"pads": [1] * 4}),
            "the bias of the first stops at the padding of the second",
        ),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    assert_kept(model, RULE, reason)


def test_keeps_out_of_a_result_that_others_read() -> None:
    assert_kept(products(8, 8, 6, more=[node("Relu", "p0", "z")], outputs=["y", "z"]), RULE)
    assert_kept(products(8, 8, 6, outputs=["y", "p0"]), RULE)


def test_keeps_out_of_shared_and_overridable_weights() -> None:
    twin = node("MatMul", "x w0", "z")
    assert_kept(products(8, 8, 6, more=[twin], outputs=["y", "z"]), RULE, "the weights are shared")
    assert_kept(products(8, 8, 6, overridable=["w0"]), RULE)
    assert_kept(products(8, 8, 6, overridable=["w1"]), RULE)


def test_keeps_out_of_stacks_of_matrices_and_of_a_gemm_that_transposes_its_input() -> None:
    nodes = [node("MatMul", "x v", "p"), node("MatMul", "p w", "y")]
    weights = {"v": normal(2, 4, 4), "w": normal(4, 3)}
    assert_kept(model_of(nodes, (2, 3, 4), weights), RULE, "the weights are not a matrix")
    nodes = [node("Gemm", "x v", "p", transA=1), node("MatMul", "p w", "y")]
    weights = {"v": normal(3, 4), "w": normal(4, 3)}
    assert_kept(model_of(nodes, (3, 4), weights), RULE, "Gemm transposes its input")


def test_keeps_out_of_integers() -> None:
    nodes = [node("MatMul", "x v", "p"), node("MatMul", "p w", "y")]
    weights = {"v": np.ones((4, 4), np.int32), "w": np.ones((4, 4), np.int32)}
    model = model_of(nodes, (3, 4), weights, dtype=TensorProto.INT32)
    assert_kept(model, RULE, "the weights are no floats")


def test_keeps_out_of_products_that_overflow() -> None:
    model = products(8, 8, 6)
    for tensor in model.graph.initializer:
        huge = onnx.numpy_helper.to_array(tensor) * np.float32(1e30)
        tensor.CopyFrom(onnx.numpy_helper.from_array(huge, tensor.name))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the folded weights do not fit float32": 1}
