"""eliminate_repeated_op: what it keeps out of, then what fires."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite
from tests.passes.noops import (
    PLACES,
    assert_dropped,
    assert_kept,
    assert_kept_between_input_and_output,
    identity,
)

RULE = "eliminate_repeated_op"
DIMS = ("batch", 4)
KEPT = ("Relu", "Abs", "Sign", "Ceil", "Floor", "Round")
FEEDS = {"in": np.array([[-2.5, -0.4, 0.5, 1.5], [0.0, -0.0, np.inf, np.nan]], dtype=np.float32)}


def chain(*ops: str) -> list[NodeProto]:
    names = ["x", *(f"v{index}" for index in range(1, len(ops))), "y"]
    return [helper.make_node(op, [names[i]], [names[i + 1]]) for i, op in enumerate(ops)]


@pytest.mark.parametrize("ops", [("Neg", "Abs"), ("Abs", "Neg"), ("Relu", "Neg"), ("Ceil", "Floor")])
def test_keeps_different_operators(ops: tuple[str, str]) -> None:
    assert_kept(RULE, chain(*ops), DIMS, "")


@pytest.mark.parametrize("op", ["Exp", "Sqrt", "Reciprocal", "Sigmoid"])
def test_keeps_what_changes_again(op: str) -> None:
    assert_kept(RULE, chain(op, op), DIMS, "")


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, chain("Neg", "Neg"), DIMS)


def test_keeps_both_of_two_graph_outputs() -> None:
    model = make_model(
        [helper.make_node("Relu", ["in"], ["x"]), helper.make_node("Relu", ["x"], ["y"])],
        {"in": DIMS},
        ["x", "y"],
    )
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the result is a graph output": 1}}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("op", KEPT)
def test_repeats(where: str, op: str) -> None:
    assert_dropped(RULE, where, chain(op, op), DIMS, feeds=FEEDS, leaves={op: 1})


@pytest.mark.parametrize("where", PLACES)
def test_undoes(where: str) -> None:
    assert_dropped(RULE, where, chain("Neg", "Neg"), DIMS, feeds=FEEDS)


@pytest.mark.parametrize(
    ("op", "dtype", "data"),
    [
        pytest.param("Not", TensorProto.BOOL, np.array([[True, False, False, True]]), id="not"),
        pytest.param("BitwiseNot", TensorProto.INT32, np.array([[0, 1, -1, 2**31 - 1]], np.int32), id="bits"),
        pytest.param("Neg", TensorProto.INT32, np.array([[0, 1, -1, -(2**31)]], np.int32), id="int32"),
    ],
)
def test_undoes_in_other_types(op: str, dtype: int, data: np.ndarray) -> None:
    nodes = chain(op, op)
    assert_dropped(RULE, "in the middle", nodes, DIMS, opset=18, dtype=dtype, feeds={"in": data})


def test_leaves_the_first_to_its_other_users() -> None:
    nodes = [identity("in", "x"), *chain("Neg", "Neg"), identity("v1", "other"), identity("y", "out")]
    model = make_model(nodes, {"in": DIMS}, ["out", "other"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 3, "Neg": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(("count", "left"), [(3, 1), (4, 0)])
def test_undoes_chains(count: int, left: int) -> None:
    model = make_model(
        [identity("in", "x"), *chain(*["Neg"] * count), identity("y", "out")], {"in": DIMS}, ["out"]
    )
    after = rewrite(model, RULE)
    assert after.ops.get("Neg", 0) == left
    assert_same_answers(model, after.model)
