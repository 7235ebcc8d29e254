"""eliminate_negated_erf: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes.fusions import (
    SPECIAL,
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "eliminate_negated_erf"
DIMS = ("batch", 3, 8)
ERFC = (node("Erf", "z", "e"), node("Sub", "one e", "y"))
ONE = {"one": f32(1)}
LEFT = {"Erf": 1, "Add": 1}

SPELLINGS = {
    "negated": Spelling((node("Neg", "x", "z"), *ERFC), ONE),
    "negated and scaled": Spelling(
        (node("Neg", "x", "n"), node("Mul", "n r", "z"), *ERFC), {**ONE, "r": f32(np.sqrt(0.5))}
    ),
    "negated and divided": Spelling(
        (node("Neg", "x", "n"), node("Div", "n r", "z"), *ERFC), {**ONE, "r": f32(np.sqrt(2))}
    ),
    "by a negative factor": Spelling((node("Mul", "x r", "z"), *ERFC), {**ONE, "r": f32([-0.7] * 8)}),
    "by a negative divisor": Spelling((node("Div", "x r", "z"), *ERFC), {**ONE, "r": f32(-2)}),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_fires(name: str) -> None:
    spelling = SPELLINGS[name]
    scaled = {each.op_type: 1 for each in spelling.nodes} - {"Neg": 1, "Sub": 1}.keys()
    leaves = {**dict.fromkeys(scaled, 1), **LEFT}
    assert_fuses(spelling.model(DIMS), RULE, leaves=leaves)
    assert_fuses(spelling.model((8,)), RULE, leaves=leaves, feeds={"x": SPECIAL})


@pytest.mark.parametrize("name", SPELLINGS)
def test_fires_in_both_branches_of_an_if(name: str) -> None:
    assert_fuses_in_both_branches(SPELLINGS[name], RULE, DIMS, 17)


def test_fires_on_what_is_no_constant() -> None:
    nodes = (node("Neg", "x", "z"), node("Erf", "z", "e"), node("Sub", "other e", "y"))
    assert_fuses(Spelling(nodes).model(DIMS), RULE, leaves=LEFT)


def test_leaves_a_negation_that_others_use() -> None:
    nodes = (node("Neg", "x", "z"), *ERFC, node("Relu", "z", "used"))
    model = Spelling(nodes, ONE).model(DIMS, outputs=["y", "used", "z"])
    after = rewrite(model, RULE)
    assert after.ops == {"Neg": 1, "Relu": 1, **LEFT}
    assert_same_answers(model, after.model)


def test_leaves_inner_values_that_are_outputs() -> None:
    spelling = Spelling((node("Mul", "x r", "z"), *ERFC), {**ONE, "r": f32(-0.7)})
    assert_needs_every_inner_value_to_itself(spelling, RULE, DIMS, 17)


def test_makes_a_gelu_of_tensorflow_s_spelling() -> None:
    nodes = (
        node("Mul", "half x", "h"),
        node("Neg", "x", "n"),
        node("Mul", "n r", "z"),
        node("Erf", "z", "e"),
        node("Sub", "one e", "c"),
        node("Mul", "h c", "y"),
    )
    spelling = Spelling(nodes, {**ONE, "half": f32(0.5), "r": f32(np.sqrt(0.5))})
    assert_fuses(spelling.model(DIMS, opset=20), RULE, "fuse_gelu", leaves={"Gelu": 1}, rtol=1e-5)


def _model(r: np.ndarray, *, op_type: str = "Mul", dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    nodes = (node(op_type, "x r", "z"), *ERFC)
    return Spelling(nodes, {**ONE, "r": r}).model(DIMS, dtype=dtype)


@pytest.mark.parametrize("r", [f32(0.7), f32([-1] * 7 + [1]), f32(0)])
def test_keeps_out_of_factors_that_are_not_all_negative(r: np.ndarray) -> None:
    assert_stays(_model(r), RULE, "")


def test_keeps_out_of_a_factor_that_may_come_with_a_run() -> None:
    spelling = Spelling((node("Mul", "x r", "z"), *ERFC), {**ONE, "r": f32(-0.7)})
    assert_stays(spelling.model(DIMS, overridable=["r"]), RULE, "")
