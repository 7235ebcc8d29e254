"""fuse_hard_swish: what fires, and each precondition broken once."""

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

RULE = "fuse_hard_swish"
DIMS = ("batch", 3, 8)


def gated(**attributes: float) -> Spelling:
    return Spelling((node("HardSigmoid", "x", "h", **attributes), node("Mul", "x h", "y")))


SWISH = gated(alpha=1 / 6, beta=0.5)


@pytest.mark.parametrize("opset", [14, 17, 22])
@pytest.mark.parametrize("spelling", [SWISH, SWISH.commuted()])
def test_fuses(spelling: Spelling, opset: int) -> None:
    assert_fuses(spelling.model(DIMS, opset=opset), RULE, leaves={"HardSwish": 1})


def test_fuses_the_default_beta() -> None:
    assert_fuses(gated(alpha=1 / 6).model(DIMS), RULE, leaves={"HardSwish": 1})


def test_keeps_what_is_not_a_number() -> None:
    assert_fuses(SWISH.model((8,)), RULE, leaves={"HardSwish": 1}, feeds={"x": SPECIAL})


def test_fuses_half_precision() -> None:
    model = SWISH.model(DIMS, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"HardSwish": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(SWISH, RULE, DIMS, 17)


def test_fuses_what_another_rule_makes_of_paddles_spelling() -> None:
    nodes = (
        node("Add", "x three", "a"),
        node("Clip", "a zero six", "c"),
        node("Mul", "x c", "m"),
        node("Div", "m six", "y"),
    )
    spelling = Spelling(nodes, {"three": f32(3), "zero": f32(0), "six": f32(6)})
    assert_fuses(spelling.model(DIMS), "fuse_hard_sigmoid", RULE, leaves={"HardSwish": 1})


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(SWISH, RULE, DIMS, 17)


def test_keeps_out_of_other_slopes() -> None:
    for spelling in (gated(), gated(alpha=0.1667), gated(alpha=1 / 6, beta=0.4)):
        assert_stays(spelling.model(DIMS), RULE, "it has another slope")


def test_keeps_out_of_the_gate_of_another_value() -> None:
    nodes = (SWISH.nodes[0], node("Mul", "other h", "y"))
    assert_stays(Spelling(nodes).model(DIMS), RULE, "")


def test_keeps_out_before_opset_14() -> None:
    assert_stays(SWISH.model(DIMS, opset=13), RULE, "HardSwish came with opset 14")
