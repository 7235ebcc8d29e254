"""fuse_hard_sigmoid: the spellings that fuse, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import f32, node, rewrite
from tests.passes.fusions import (
    SPECIAL,
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "fuse_hard_sigmoid"
DIMS = ("batch", 3, 8)
BOUNDS = {"three": f32(3), "zero": f32(0), "six": f32(6)}
SIXTH = {**BOUNDS, "sixth": f32(1 / 6)}
LINE = {"slope": f32(0.2), "half": f32(0.5), "zero": f32(0), "one": f32(1)}
RELU6 = (node("Add", "x three", "a"), node("Clip", "a zero six", "c"))
GATES = {
    "divided by 6": Spelling((*RELU6, node("Div", "c six", "y")), BOUNDS),
    "times a sixth": Spelling((*RELU6, node("Mul", "c sixth", "y")), SIXTH),
    "minus -3": Spelling(
        (node("Sub", "x three", "a"), *RELU6[1:], node("Div", "c six", "y")), {**BOUNDS, "three": f32(-3)}
    ),
    "of two steps": Spelling(
        (node("Mul", "x slope", "p"), node("Add", "p half", "a"), node("Clip", "a zero one", "y")), LINE
    ),
    "shifted, then scaled": Spelling(
        (node("Add", "x half", "p"), node("Mul", "p slope", "a"), node("Clip", "a zero one", "y")), LINE
    ),
    "divided, then shifted": Spelling(
        (node("Div", "x six", "p"), node("Add", "p half", "a"), node("Clip", "a zero one", "y")),
        {**LINE, "six": f32(6)},
    ),
    "of one step": Spelling((node("Add", "x half", "a"), node("Clip", "a zero one", "y")), LINE),
    "with constants of one element": Spelling(
        (*RELU6, node("Div", "c by", "y")), {**BOUNDS, "three": f32([3]), "by": f32([[6]])}
    ),
}
PRODUCTS = {
    "divided last": Spelling((*RELU6, node("Mul", "x c", "m"), node("Div", "m six", "y")), BOUNDS),
    "scaled last": Spelling((*RELU6, node("Mul", "x c", "m"), node("Mul", "m sixth", "y")), SIXTH),
    "divided first": Spelling((*RELU6, node("Div", "x six", "m"), node("Mul", "m c", "y")), BOUNDS),
    "gate divided": Spelling((*RELU6, node("Div", "c six", "m"), node("Mul", "x m", "y")), BOUNDS),
    "gate of another value": Spelling(
        (*RELU6, node("Mul", "other c", "m"), node("Div", "m six", "y")), BOUNDS
    ),
}


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", GATES.values(), ids=GATES)
def test_fuses_gates(spelling: Spelling, commuted: bool) -> None:
    spelling = spelling.commuted() if commuted else spelling
    assert_fuses(spelling.model(DIMS), RULE, leaves={"HardSigmoid": 1})


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", PRODUCTS.values(), ids=PRODUCTS)
def test_fuses_products(spelling: Spelling, commuted: bool) -> None:
    spelling = spelling.commuted() if commuted else spelling
    assert_fuses(spelling.model(DIMS), RULE, leaves={"HardSigmoid": 1, "Mul": 1})


@pytest.mark.parametrize("spelling", [GATES["divided by 6"], PRODUCTS["divided last"]])
def test_keeps_what_is_not_a_number(spelling: Spelling) -> None:
    model = spelling.model((8,))
    leaves = {"HardSigmoid": 1, **({"Mul": 1} if len(spelling.nodes) == 4 else {})}
    assert_fuses(model, RULE, leaves=leaves, feeds={"x": SPECIAL})


@pytest.mark.parametrize("opset", [11, 12, 13, 18, 22])
def test_fuses_in_any_opset_with_bounds_as_inputs(opset: int) -> None:
    assert_fuses(PRODUCTS["divided last"].model(DIMS, opset=opset), RULE, leaves={"HardSigmoid": 1, "Mul": 1})


@pytest.mark.parametrize("opset", [7, 10])
def test_fuses_with_bounds_as_attributes(opset: int) -> None:
    nodes = (RELU6[0], node("Clip", "a", "c", min=0.0, max=6.0), node("Div", "c six", "y"))
    spelling = Spelling(nodes, {"three": f32(3), "six": f32(6)})
    assert_fuses(spelling.model(DIMS, opset=opset), RULE, leaves={"HardSigmoid": 1})


def test_fuses_half_precision() -> None:
    model = GATES["divided by 6"].model(DIMS, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"HardSigmoid": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(PRODUCTS["divided last"], RULE, DIMS, 17)


@pytest.mark.parametrize("name", ["divided by 6", "of two steps"])
def test_leaves_inner_values_that_are_outputs(name: str) -> None:
    spelling = GATES[name]
    for inner in spelling.nodes[:-1]:
        after = rewrite(spelling.model(DIMS, outputs=["y", inner.output[0]]), RULE)
        assert inner.op_type in after.ops


def test_leaves_inner_values_of_a_product_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(PRODUCTS["divided last"], RULE, DIMS, 17)


def clipped(**weights: np.ndarray) -> onnx.ModelProto:
    return Spelling(GATES["divided by 6"].nodes, {**BOUNDS, **weights}).model(("batch", 3, 8))


def test_keeps_out_of_other_bounds() -> None:
    assert_stays(clipped(zero=f32(-1)), RULE, "the bounds are not 0 and 1")
    assert_stays(clipped(six=f32(0)), RULE, "the bounds are not 0 and 1", among=True)


def test_keeps_out_of_a_rounded_sixth_which_ends_above_1() -> None:
    spelling = Spelling(GATES["times a sixth"].nodes, {**SIXTH, "sixth": f32(0.1667)})
    assert_stays(spelling.model(DIMS), RULE, "the bounds are not 0 and 1")


def test_keeps_out_of_a_product_that_is_not_divided() -> None:
    assert_stays(
        Spelling((*RELU6, node("Mul", "x c", "y")), BOUNDS).model(DIMS), RULE, "the bounds are not 0 and 1"
    )


def test_keeps_out_of_one_bound() -> None:
    nodes = (RELU6[0], node("Clip", "a zero", "c"), node("Div", "c six", "y"))
    assert_stays(Spelling(nodes, BOUNDS).model(DIMS), RULE, "the bounds are not 0 and 1")


def test_keeps_out_of_constants_that_vary_or_raise_the_rank() -> None:
    varying, higher = f32(np.full(8, 3)), f32([[[[3]]]])
    assert_stays(clipped(three=varying), RULE, "a constant is not a single number")
    assert_stays(clipped(three=higher), RULE, "a constant is not a single number")


def test_keeps_out_of_a_constant_that_may_come_with_a_run() -> None:
    assert_stays(GATES["divided by 6"].model(DIMS, overridable=["three"]), RULE, "")


def test_keeps_out_of_double_precision_without_a_kernel() -> None:
    model = GATES["divided by 6"].model(DIMS, dtype=TensorProto.DOUBLE)
    reasons = {"onnxruntime has no HardSigmoid of this dtype", "the bounds are not 0 and 1"}
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined[RULE]) == reasons


def test_leaves_a_shift_alone_that_both_factors_read() -> None:
    nodes = (
        node("Add", "x half", "s"),
        node("Add", "s three", "a"),
        node("Clip", "a zero six", "c"),
        node("Mul", "s c", "m"),
        node("Div", "m six", "y"),
    )
    spelling = Spelling(nodes, {**BOUNDS, "half": f32(0.5)})
    after = assert_fuses(spelling.model(DIMS), RULE, leaves={"Add": 1, "HardSigmoid": 1, "Mul": 1})
    gate, product = after.model.graph.node[1:]
    assert set(product.input) == {*gate.input, *gate.output}


def test_keeps_out_of_a_line_that_is_a_factor() -> None:
    nodes = (*RELU6, node("Mul", "a c", "m"), node("Div", "m six", "y"))
    assert_stays(Spelling(nodes, BOUNDS).model(DIMS), RULE, "the result of Add is an operand too", among=True)
