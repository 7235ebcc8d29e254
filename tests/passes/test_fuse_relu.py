"""fuse_relu: what fires, and each precondition broken once."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from tests.helpers import f32, node
from tests.passes.fusions import SPECIAL, Spelling, assert_fuses, assert_fuses_in_both_branches, assert_stays

RULE = "fuse_relu"
DIMS = ("batch", 3, 8)
NODES = (node("Max", "x zero", "y"),)
RELU = Spelling(NODES, {"zero": f32(0)})


@pytest.mark.parametrize("opset", [8, 13, 14, 21])
@pytest.mark.parametrize("spelling", [RELU, RELU.commuted()])
def test_fuses(spelling: Spelling, opset: int) -> None:
    assert_fuses(spelling.model(DIMS, opset=opset), RULE, leaves={"Relu": 1})


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_fuses_other_floats(dtype: int) -> None:
    assert_fuses(RELU.model(DIMS, dtype=dtype), RULE, leaves={"Relu": 1})


def test_keeps_what_is_not_a_number() -> None:
    assert_fuses(RELU.model((8,)), RULE, leaves={"Relu": 1}, feeds={"x": SPECIAL})


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(RELU, RULE, DIMS, 17)


def test_keeps_out_of_other_bounds() -> None:
    for zero in (f32(1), f32([0] * 8), f32([[[[0]]]])):
        assert_stays(Spelling(NODES, {"zero": zero}).model(DIMS), RULE, "the bound is not 0")


def test_keeps_out_of_integers() -> None:
    model = RELU.model(DIMS, dtype=TensorProto.INT64)
    assert_stays(model, RULE, "onnxruntime has no Relu of this dtype")


def test_keeps_out_of_a_bound_that_may_come_with_a_run() -> None:
    assert_stays(RELU.model(DIMS, overridable=["zero"]), RULE, "")
