"""merge_concatenated_branches: what fires, and each precondition broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes import folds
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "merge_concatenated_branches"
C = 4
DIMS = ("batch", C, 7, 8)
Part = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]


def conv(
    name: str, m: int, size: tuple[int, ...] = (1, 1), *, bias: bool = True, x: str = "x", **options: Any
) -> Part:
    """A Conv to m channels."""
    weights = {f"{name}_w": normal(m, C // options.get("group", 1), *size)}
    if bias:
        weights[f"{name}_b"] = normal(m)
    return [helper.make_node("Conv", [x, *weights], [name], **options)], weights


def product(name: str, n: int, *, bias: bool = False) -> Part:
    """A product with n columns."""
    weights = {f"{name}_w": normal(C, n)}
    nodes = [node("MatMul", f"x {name}_w", name)]
    if bias:
        weights[f"{name}_b"] = normal(n)
        nodes.append(node("Add", f"{name} {name}_b", f"{name}_sum"))
    return nodes, weights


def gemm(name: str, n: int, *, bias: bool = True) -> Part:
    """A Gemm with n columns."""
    weights = {f"{name}_w": normal(n, C)}
    if bias:
        weights[f"{name}_b"] = normal(n)
    return [node("Gemm", " ".join(["x", *weights]), name, transB=1, alpha=0.5)], weights


def then(part: Part, op_type: str, inputs: str = "", **attributes: Any) -> Part:
    """The part and an activation."""
    nodes, weights = part
    last = nodes[-1].output[0]
    return [*nodes, node(op_type, f"{last} {inputs}", f"{last}_{op_type}", **attributes)], weights


def concatenated(*parts: Part | str, axis: int = 1, **options: Any) -> onnx.ModelProto:
    """A model that concatenates the parts, or values, and ends in Neg."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    names: list[str] = []
    for part in parts:
        if isinstance(part, str):
            names.append(part)
            continue
        nodes += part[0]
        weights |= part[1]
        names.append(part[0][-1].output[0])
    nodes += [helper.make_node("Concat", names, ["cat"], axis=axis), node("Neg", "cat", "y")]
    weights |= options.pop("weights", {})
    return model_of([*nodes, *options.pop("more", [])], options.pop("dims", DIMS), weights, **options)


@pytest.mark.parametrize("axis", [1, -3])
def test_fires_on_convs_in_their_order(axis: int) -> None:
    model = concatenated(conv("a", 3), conv("b", 5), conv("c", 2, bias=False), axis=axis)
    assert_becomes(model, RULE, {"Conv": 1, "Neg": 1})


def test_fires_on_convs_of_one_geometry() -> None:
    options: dict[str, Any] = {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1]}
    model = concatenated(conv("a", 3, (3, 2), **options), conv("b", 5, (3, 2), **options))
    assert_becomes(model, RULE, {"Conv": 1, "Neg": 1})


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
def test_fires_on_convs_with_the_same_activation(activation: str) -> None:
    model = concatenated(then(conv("a", 3), activation), then(conv("b", 5), activation))
    ops = rewrite(model, RULE).ops
    assert ops == {"Conv": 1, activation: 1, "Neg": 1}
    assert_becomes(model, RULE, ops)


def test_fires_on_activations_with_parameters() -> None:
    parts = [then(conv(name, 3), "LeakyRelu", alpha=0.3) for name in "ab"]
    assert_becomes(concatenated(*parts), RULE, {"Conv": 1, "LeakyRelu": 1, "Neg": 1})
    parts = [then(conv(name, 3), "Clip", "low") for name in "ab"]
    model = concatenated(*parts, weights={"low": f32(0)})
    assert_becomes(model, RULE, {"Conv": 1, "Clip": 1, "Neg": 1})


@pytest.mark.parametrize("dims", [("batch", C), ("batch", 3, C)], ids=str)
@pytest.mark.parametrize("axis", [-1, "last"])
def test_fires_on_products(dims: tuple[Any, ...], axis: int | str) -> None:
    at = len(dims) - 1 if isinstance(axis, str) else axis
    model = concatenated(product("a", 3), product("b", 5), axis=at, dims=dims)
    assert_becomes(model, RULE, {"MatMul": 1, "Neg": 1})


def test_fires_on_products_with_and_without_a_bias() -> None:
    parts = [product("a", 3, bias=True), product("b", 5), product("c", 4, bias=True)]
    model = concatenated(*parts, axis=-1, dims=("batch", 3, C))
    assert_becomes(model, RULE, {"MatMul": 1, "Add": 1, "Neg": 1})


def test_fires_on_gemm() -> None:
    model = concatenated(gemm("a", 3), gemm("b", 5, bias=False), dims=("batch", C))
    assert_becomes(model, RULE, {"Gemm": 1, "Neg": 1})


def test_what_else_is_concatenated_stays_where_it_is() -> None:
    model = concatenated("x", conv("a", 3), conv("b", 5), "r", inputs={"r": DIMS})
    assert_becomes(model, RULE, {"Conv": 1, "Concat": 1, "Neg": 1})


def test_two_runs_become_two_convs() -> None:
    parts = [conv("a", 3), conv("b", 5), conv("c", 3, x="r"), conv("d", 5, x="r")]
    model = concatenated(*parts, inputs={"r": DIMS})
    assert_becomes(model, RULE, {"Conv": 2, "Concat": 1, "Neg": 1}, times=2)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_new_weights_keep_the_dtype(dtype: int) -> None:
    model = concatenated(conv("a", 3), conv("b", 5), dtype=dtype, opset=22)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {dtype}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model))


def test_fires_in_both_branches_of_an_if_and_in_a_function() -> None:
    model = folds.in_branches(concatenated(conv("a", 3), conv("b", 5)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)
    model = folds.in_function(concatenated(conv("a", 3), conv("b", 5)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(
    "parts",
    [
        [conv("a", 3), conv("b", 5, x="r")],  # they read two values
        [conv("a", 3), conv("b", 5, (3, 3), pads=[1] * 4)],  # a 3×3 costs nine times as much
        [conv("a", 3), "x", conv("b", 5)],  # no neighbours
        [then(conv("a", 3), "Relu"), conv("b", 5)],
        [then(conv("a", 3), "Relu"), then(conv("b", 5), "Tanh")],
        [then(conv("a", 3), "Elu", alpha=0.5), then(conv("b", 5), "Elu", alpha=0.25)],
        ["x", "r"],
        [conv("a", 3)],
    ],
)
def test_keeps_out_of_parts_that_differ(parts: list[Part | str]) -> None:
    assert_kept(concatenated(*parts, inputs={"r": DIMS}), RULE)


def test_keeps_out_of_grouped_convs() -> None:
    model = concatenated(conv("a", 4, group=2), conv("b", 4, group=2))
    assert_kept(model, RULE, "the channels of each group would move apart")


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_keeps_out_of_another_axis(axis: int) -> None:
    model = concatenated(conv("a", 3), conv("b", 3), axis=axis)
    assert_kept(model, RULE, "the channels are on another axis")


def test_keeps_out_of_products_concatenated_as_rows() -> None:
    model = concatenated(product("a", 3), product("b", 3), axis=1, dims=("batch", 3, C))
    assert_kept(model, RULE, "the channels are on another axis")


def test_keeps_out_of_results_that_others_read() -> None:
    more = [node("Relu", "a", "other")]
    assert_kept(concatenated(conv("a", 3), conv("b", 3), more=more, outputs=["y", "other"]), RULE)
    assert_kept(concatenated(conv("a", 3), conv("b", 3), outputs=["y", "a"]), RULE)


def test_keeps_out_of_the_same_result_twice() -> None:
    assert_kept(concatenated(conv("a", 3), "a"), RULE)


def test_keeps_out_of_shared_and_overridable_weights() -> None:
    twin = node("Conv", "r a_w", "twin")
    parts = [conv("a", 3), conv("b", 3)]
    model = concatenated(*parts, more=[twin], outputs=["y", "twin"], inputs={"r": DIMS})
    assert_kept(model, RULE, "the weights are shared")
    assert_kept(concatenated(*parts, overridable=["b_w"]), RULE)
