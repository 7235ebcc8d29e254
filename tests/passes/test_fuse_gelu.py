"""fuse_gelu: the spellings that fuse, and each precondition broken once."""

from __future__ import annotations

import numpy as np
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

RULE = "fuse_gelu"
DIMS = ("batch", 3, 8)
ERF = (node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "g"))
ERF_WEIGHTS = {"root": f32(np.sqrt(2)), "one": f32(1), "half": f32(0.5)}
TANH_WEIGHTS = {
    "three": f32(3),
    "cubic": f32(0.044715),
    "inner": f32(np.sqrt(2 / np.pi)),
    "one": f32(1),
    "half": f32(0.5),
}
TANH = (
    node("Pow", "x three", "p"),
    node("Mul", "cubic p", "q"),
    node("Add", "x q", "r"),
    node("Mul", "inner r", "s"),
    node("Tanh", "s", "t"),
    node("Add", "t one", "g"),
)
CUBED = (node("Mul", "x x", "xx"), node("Mul", "x xx", "p"), *TANH[1:])
FACTORED = (
    node("Mul", "x inner", "k"),
    node("Mul", "x cubic", "c"),
    node("Mul", "c x", "cc"),
    node("Add", "cc one", "u"),
    node("Mul", "k u", "s"),
    *TANH[4:],
)
HALVED_LAST = (node("Mul", "x g", "m"), node("Mul", "m half", "y"))


def erf(*nodes: object, **weights: np.ndarray) -> Spelling:
    return Spelling((*ERF, *nodes), {**ERF_WEIGHTS, **weights})  # type: ignore[arg-type]


def without(weights: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in weights.items() if key != name}


LAST = erf(*HALVED_LAST)
EXACT = {
    "halved last": LAST,
    "gate halved": erf(node("Mul", "half g", "m"), node("Mul", "x m", "y")),
    "x halved": erf(node("Mul", "x half", "m"), node("Mul", "m g", "y")),
    "divided by 2": erf(node("Mul", "x g", "m"), node("Div", "m half", "y"), half=f32(2)),
    "times the root of a half": Spelling(
        (node("Mul", "x root", "d"), *LAST.nodes[1:]), {**ERF_WEIGHTS, "root": f32(np.sqrt(0.5))}
    ),
}
APPROXIMATE = {
    "power": Spelling((*TANH, *HALVED_LAST), TANH_WEIGHTS),
    "products": Spelling((*CUBED, *HALVED_LAST), without(TANH_WEIGHTS, "three")),
    "factored": Spelling((*FACTORED, *HALVED_LAST), without(TANH_WEIGHTS, "three")),
    "gate halved": Spelling((*TANH, node("Mul", "half g", "m"), node("Mul", "x m", "y")), TANH_WEIGHTS),
}


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", EXACT.values(), ids=EXACT)
def test_fuses_the_exact_form(spelling: Spelling, commuted: bool) -> None:
    spelling = spelling.commuted() if commuted else spelling
    after = assert_fuses(spelling.model(DIMS, opset=20), RULE, leaves={"Gelu": 1})
    assert not after.model.graph.node[0].attribute


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", APPROXIMATE.values(), ids=APPROXIMATE)
def test_fuses_the_approximation(spelling: Spelling, commuted: bool) -> None:
    spelling = spelling.commuted() if commuted else spelling
    after = assert_fuses(spelling.model(DIMS, opset=20), RULE, leaves={"Gelu": 1})
    assert after.model.graph.node[0].attribute[0].s == b"tanh"


@pytest.mark.parametrize("spelling", [LAST, APPROXIMATE["power"]])
def test_keeps_what_is_not_a_number(spelling: Spelling) -> None:
    assert_fuses(spelling.model((8,), opset=20), RULE, leaves={"Gelu": 1}, feeds={"x": SPECIAL})


def test_fuses_half_precision() -> None:
    model = LAST.model(DIMS, opset=20, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"Gelu": 1}, rtol=2e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(LAST, RULE, DIMS, 20)


@pytest.mark.parametrize("spelling", [LAST, APPROXIMATE["products"]])
def test_leaves_inner_values_that_are_outputs(spelling: Spelling) -> None:
    assert_needs_every_inner_value_to_itself(spelling, RULE, DIMS, 20)


def test_keeps_out_before_opset_20() -> None:
    assert_stays(LAST.model(DIMS, opset=19), RULE, "Gelu came with opset 20")


def test_keeps_out_of_double_precision_without_a_kernel() -> None:
    model = LAST.model(DIMS, opset=20, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no Gelu of this dtype")


@pytest.mark.parametrize("name", ERF_WEIGHTS)
def test_keeps_out_of_other_constants(name: str) -> None:
    spelling = erf(*HALVED_LAST, **{name: ERF_WEIGHTS[name] * np.float32(1.001)})
    assert_stays(spelling.model(DIMS, opset=20), RULE, "other constants")


@pytest.mark.parametrize("name", TANH_WEIGHTS)
def test_keeps_out_of_other_constants_of_the_approximation(name: str) -> None:
    weights = {**TANH_WEIGHTS, name: TANH_WEIGHTS[name] * np.float32(1.001)}
    spelling = Spelling(APPROXIMATE["power"].nodes, weights)
    assert_stays(spelling.model(DIMS, opset=20), RULE, "other constants")


def test_keeps_out_of_constants_that_raise_the_rank() -> None:
    spelling = erf(*HALVED_LAST, half=f32([[[[0.5]]]]))
    assert_stays(spelling.model(DIMS, opset=20), RULE, "other constants")


def test_keeps_out_of_the_gate_of_another_value() -> None:
    spelling = erf(node("Mul", "other g", "m"), node("Mul", "m half", "y"))
    assert_stays(spelling.model(DIMS, opset=20), RULE, "")
