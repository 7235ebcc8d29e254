"""fuse_leaky_relu: what fires, and each precondition broken once."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from tests.helpers import f32, node
from tests.passes.fusions import (
    SPECIAL,
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "fuse_leaky_relu"
DIMS = ("batch", 3, 8)
NODES = (node("Mul", "x alpha", "a"), node("Max", "x a", "y"))
LEAKY = Spelling(NODES, {"alpha": f32(0.1)})


@pytest.mark.parametrize("opset", [8, 13, 16, 21])
@pytest.mark.parametrize("spelling", [LEAKY, LEAKY.commuted()])
def test_fuses(spelling: Spelling, opset: int) -> None:
    assert_fuses(spelling.model(DIMS, opset=opset), RULE, leaves={"LeakyRelu": 1})


def test_keeps_what_is_not_a_number() -> None:
    assert_fuses(LEAKY.model((8,)), RULE, leaves={"LeakyRelu": 1}, feeds={"x": SPECIAL})


def test_fuses_half_precision() -> None:
    model = LEAKY.model(DIMS, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"LeakyRelu": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(LEAKY, RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(LEAKY, RULE, DIMS, 17)


@pytest.mark.parametrize("alpha", [f32(0), f32(1), f32(-0.1), f32(2), f32([0.1] * 8), f32([[[[0.1]]]])])
def test_keeps_out_of_other_factors(alpha: object) -> None:
    model = Spelling(NODES, {"alpha": f32(alpha)}).model(DIMS)  # type: ignore[arg-type]
    assert_stays(model, RULE, "the factor is not between 0 and 1")


def test_keeps_out_of_double_precision_without_a_kernel() -> None:
    model = LEAKY.model(DIMS, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no LeakyRelu of this dtype")


def test_keeps_out_of_a_part_of_another_value() -> None:
    nodes = (NODES[0], node("Max", "other a", "y"))
    assert_stays(Spelling(nodes, LEAKY.weights).model(DIMS), RULE, "")


def test_keeps_out_of_a_maximum_of_three() -> None:
    nodes = (NODES[0], node("Max", "x a other", "y"))
    assert_stays(Spelling(nodes, LEAKY.weights).model(DIMS), RULE, "")
