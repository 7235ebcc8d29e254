"""fuse_mish: what fires, and each precondition broken once."""

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

RULE = "fuse_mish"
DIMS = ("batch", 3, 8)
TAIL = (node("Tanh", "p", "t"), node("Mul", "x t", "y"))
MISH = Spelling((node("Softplus", "x", "p"), *TAIL))
SPELLED = Spelling(
    (node("Exp", "x", "e"), node("Add", "e one", "f"), node("Log", "f", "p"), *TAIL), {"one": f32(1)}
)


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", [MISH, SPELLED])
def test_fuses(spelling: Spelling, commuted: bool) -> None:
    spelling = spelling.commuted() if commuted else spelling
    assert_fuses(spelling.model(DIMS, opset=18), RULE, leaves={"Mish": 1})


@pytest.mark.parametrize("spelling", [MISH, SPELLED])
def test_keeps_what_is_not_a_number(spelling: Spelling) -> None:
    assert_fuses(spelling.model((8,), opset=18), RULE, leaves={"Mish": 1}, feeds={"x": SPECIAL})


def test_fuses_half_precision() -> None:
    model = MISH.model(DIMS, opset=18, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"Mish": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(MISH, RULE, DIMS, 18)


@pytest.mark.parametrize("spelling", [MISH, SPELLED])
def test_leaves_inner_values_that_are_outputs(spelling: Spelling) -> None:
    assert_needs_every_inner_value_to_itself(spelling, RULE, DIMS, 18)


def test_keeps_out_before_opset_18() -> None:
    assert_stays(MISH.model(DIMS, opset=17), RULE, "Mish came with opset 18")


def test_keeps_out_of_other_constants() -> None:
    spelling = Spelling(SPELLED.nodes, {"one": f32(2)})
    assert_stays(spelling.model(DIMS, opset=18), RULE, "other constants")


def test_keeps_out_of_double_precision_without_a_softplus() -> None:
    nodes = (node("Exp", "x", "e"), *SPELLED.nodes[1:])
    model = Spelling(nodes, SPELLED.weights).model(DIMS, opset=18, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no Mish of this dtype")


def test_keeps_out_of_a_softplus_alone_whose_spelling_overflows() -> None:
    nodes = (node("Exp", "x", "e"), node("Add", "e one", "f"), node("Log", "f", "y"))
    assert_stays(Spelling(nodes, SPELLED.weights).model(DIMS, opset=18), RULE, "")


def test_keeps_out_of_the_gate_of_another_value() -> None:
    nodes = (*MISH.nodes[:2], node("Mul", "other t", "y"))
    assert_stays(Spelling(nodes).model(DIMS, opset=18), RULE, "")
