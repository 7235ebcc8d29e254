"""fuse_softsign: what fires, and each precondition broken once."""

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

RULE = "fuse_softsign"
DIMS = ("batch", 3, 8)
NODES = (node("Abs", "x", "a"), node("Add", "a one", "s"), node("Div", "x s", "y"))
SOFTSIGN = Spelling(NODES, {"one": f32(1)})


@pytest.mark.parametrize("opset", [7, 13, 22])
@pytest.mark.parametrize("spelling", [SOFTSIGN, SOFTSIGN.commuted()])
def test_fuses(spelling: Spelling, opset: int) -> None:
    assert_fuses(spelling.model(DIMS, opset=opset), RULE, leaves={"Softsign": 1})


def test_keeps_what_is_not_a_number() -> None:
    assert_fuses(SOFTSIGN.model((8,)), RULE, leaves={"Softsign": 1}, feeds={"x": SPECIAL})


def test_fuses_half_precision() -> None:
    model = SOFTSIGN.model(DIMS, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"Softsign": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(SOFTSIGN, RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(SOFTSIGN, RULE, DIMS, 17)


def test_keeps_out_of_other_constants() -> None:
    for one in (f32(2), f32([1, 1, 1, 1, 1, 1, 1, 1]), f32([[[[1]]]])):
        assert_stays(Spelling(NODES, {"one": one}).model(DIMS), RULE, "other constants")


def test_keeps_out_of_double_precision_without_a_kernel() -> None:
    model = SOFTSIGN.model(DIMS, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no Softsign of this dtype")


def test_keeps_out_of_the_magnitude_of_another_value() -> None:
    nodes = (*NODES[:2], node("Div", "other s", "y"))
    assert_stays(Spelling(nodes, {"one": f32(1)}).model(DIMS), RULE, "")
