"""fuse_softmax, and what holds for fuse_log_softmax too: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers import f32, node, random_feeds
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)
from tests.passes.softmaxes import BECOMES, DIMS, ENDS, spelled

both = pytest.mark.parametrize("rule", ENDS)


@both
@pytest.mark.parametrize("opset", [7, 11, 12, 13, 17, 18, 21])
def test_fuses_the_last_axis_in_any_opset(rule: str, opset: int) -> None:
    assert_fuses(spelled(rule, opset=opset).model(DIMS, opset=opset), rule, leaves=BECOMES[rule])


@both
@pytest.mark.parametrize("axis", [0, 1, -2, 2])
def test_fuses_any_axis_since_opset_13(rule: str, axis: int) -> None:
    assert_fuses(spelled(rule, axis, 13).model(DIMS, opset=13), rule, leaves=BECOMES[rule])


def test_fuses_a_product_with_the_reciprocal() -> None:
    nodes = (*spelled("fuse_softmax").nodes[:-1], node("Reciprocal", "z", "r"), node("Mul", "r e", "y"))
    model = Spelling(nodes, {"axes": np.array([-1])}).model(DIMS)
    assert_fuses(model, "fuse_softmax", leaves={"Softmax": 1})


@both
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -1e38])
def test_keeps_what_is_not_a_number_and_does_not_overflow(rule: str, value: float) -> None:
    model = spelled(rule).model(DIMS)
    feeds = random_feeds(model)
    feeds["x"][0, 0, 3] = value
    feeds["x"][0, 1] = value
    assert_fuses(model, rule, leaves=BECOMES[rule], feeds=feeds)


@both
@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.DOUBLE, 1e-14), (TensorProto.FLOAT16, 3e-3)])
def test_fuses_other_floats(rule: str, dtype: int, rtol: float) -> None:
    assert_fuses(spelled(rule).model(DIMS, dtype=dtype), rule, leaves=BECOMES[rule], rtol=rtol)


@both
def test_fuses_in_both_branches_of_an_if(rule: str) -> None:
    assert_fuses_in_both_branches(spelled(rule), rule, DIMS, 17)


@both
def test_leaves_inner_values_that_are_outputs(rule: str) -> None:
    assert_needs_every_inner_value_to_itself(spelled(rule), rule, DIMS, 17)


@both
def test_keeps_out_of_other_axes_before_opset_13(rule: str) -> None:
    model = spelled(rule, 1, 12).model(DIMS, opset=12)
    assert_stays(model, rule, "Softmax is along the last axes before opset 13")


@both
def test_keeps_out_of_several_or_different_axes(rule: str) -> None:
    several = spelled(rule, sum_axes=[1, 2], max_axes=[1, 2])
    assert_stays(several.model(DIMS), rule, "it is not along one axis")
    assert_stays(spelled(rule, max_axes=[1]).model(DIMS), rule, "it is not along one axis")
    assert_stays(spelled(rule, sum_axes=[1]).model(DIMS), rule, "it is not along one axis")


@both
def test_keeps_out_of_all_axes(rule: str) -> None:
    nodes = list(spelled(rule).nodes)
    nodes[0], nodes[3] = node("ReduceMax", "x", "m"), node("ReduceSum", "e", "z")
    assert_stays(Spelling(tuple(nodes)).model(DIMS), rule, "it is not along one axis")


@both
def test_keeps_out_of_sums_without_the_axis(rule: str) -> None:
    nodes = list(spelled(rule).nodes)
    nodes[3] = node("ReduceSum", "e axes", "z", keepdims=0)
    model = Spelling(tuple(nodes), {"axes": np.array([-1])}).model((8, 8))
    assert_stays(model, rule, "it is not along one axis")


def test_keeps_out_of_what_would_overflow() -> None:
    nodes = (node("Exp", "x", "e"), *spelled("fuse_softmax").nodes[3:])
    assert_stays(Spelling(nodes, {"axes": np.array([-1])}).model(DIMS), "fuse_softmax", "")


@both
def test_keeps_out_of_another_maximum(rule: str) -> None:
    nodes = list(spelled(rule).nodes)
    nodes[0] = node("ReduceMax", "other", "m", axes=[-1])
    assert_stays(Spelling(tuple(nodes), {"axes": np.array([-1])}).model(DIMS), rule, "")


@both
def test_keeps_out_of_axes_that_may_come_with_a_run(rule: str) -> None:
    model = spelled(rule).model(DIMS, overridable=["axes"])
    assert_stays(model, rule, "it is not along one axis")


def test_is_softmax_of_large_numbers() -> None:
    model = spelled("fuse_softmax").model((2,))
    feeds = {"x": f32([1000, 1001])}
    assert_fuses(model, "fuse_softmax", leaves={"Softmax": 1}, feeds=feeds)
