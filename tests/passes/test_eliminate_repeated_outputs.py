"""eliminate_repeated_outputs: outputs of an If or a Loop that cannot differ."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.ifs import DIMS, assert_same_on_both_sides, branch, choice, model_of, step

RULE = "eliminate_repeated_outputs"


def twice(first: str, second: str) -> onnx.GraphProto:
    return branch([node(first, "x", "p"), node(second, "x", "q")], "p q")


@pytest.mark.parametrize("outputs", ["s", "s a", "s b"])
def test_an_if(outputs: str) -> None:
    nodes = [choice("a b", twice("Neg", "Neg"), twice("Abs", "Abs")), node("Sub", "a b", "s")]
    model = model_of(nodes, outputs)
    after = rewrite(model, RULE, "eliminate_unused_outputs", "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert (after.ops["Neg"], after.ops["Abs"]) == (1, 1)
    assert_same_on_both_sides(model, after.model)


@pytest.mark.parametrize(
    ("then", "other", "outputs"),
    [
        pytest.param(twice("Neg", "Neg"), twice("Abs", "Neg"), "s", id="one branch tells them apart"),
        pytest.param(twice("Neg", "Neg"), twice("Abs", "Abs"), "a b", id="the graph returns both"),
    ],
)
def test_keeps_an_if(then: onnx.GraphProto, other: onnx.GraphProto, outputs: str) -> None:
    model = model_of([choice("a b", then, other), node("Sub", "a b", "s")], outputs)
    assert rewrite(model, RULE).fired == {}


def looping(second_start: str, second: str) -> onnx.ModelProto:
    """Carry u and v, and stack p and q."""
    nodes = [node("Add", "g x", "u"), node("Add", "g x", "v"), node("Neg", "h", "p"), node(second, "h", "q")]
    body = step(nodes, ["g", "h"], ["u", "v", "p", "q"])
    loop = helper.make_node("Loop", ["count", "", "x", second_start], ["a", "b", "c", "d"], body=body)
    flat = [node("Reshape", f"{name} flat", f"{name}_flat") for name in "abcd"]
    subtract = [*flat, node("Sub", "a_flat b_flat", "y"), node("Sub", "c_flat d_flat", "z")]
    weights = {"count": np.array(3), "zero": np.array(0, np.float32), "flat": np.array([-1])}
    start = node("Sub", "x zero", "t")
    return make_model([start, loop, *subtract], {"x": DIMS}, ["y", "z"], weights)


@pytest.mark.parametrize(
    ("start", "second", "merged"), [("x", "Neg", 2), ("t", "Neg", 1), ("x", "Abs", 1), ("t", "Abs", 0)]
)
def test_a_loop(start: str, second: str, merged: int) -> None:
    model = looping(start, second)
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: merged} if merged else {})
    assert_same_answers(model, after.model)
    assert_same_answers(model, rewrite(model).model)
