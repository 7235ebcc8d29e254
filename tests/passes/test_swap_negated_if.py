"""swap_negated_if: what it keeps out of, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite

RULE = "swap_negated_if"


def branch(op: str) -> onnx.GraphProto:
    info = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", 4])
    return helper.make_graph([helper.make_node(op, ["x"], ["result"])], op, [], [info])


def choose(condition: str, output: str) -> onnx.NodeProto:
    return helper.make_node(
        "If",
        [condition],
        [output],
        then_branch=branch("Neg"),
        else_branch=branch("Exp"),
        name=f"choice of {output}",
    )


def model_with(*nodes: onnx.NodeProto, outputs: list[str]) -> onnx.ModelProto:
    """Return a model that compares the sum of x with 0 first."""
    compare = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "zero"], ["negative"]),
        helper.make_node("Not", ["negative"], ["positive"]),
    ]
    weights = {"zero": np.array(0, dtype=np.float32)}
    return make_model([*compare, *nodes], {"x": ["batch", 4]}, outputs, weights)


def assert_same_on_both_sides(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    for sign in (-1, 1):
        feeds = {"x": np.full((3, 4), sign, dtype=np.float32)}
        assert_same_answers(before, after, feeds)


def test_keeps_a_condition_that_is_not_negated() -> None:
    model = model_with(choose("negative", "y"), outputs=["y"])
    assert rewrite(model, RULE).fired == {}


@pytest.mark.parametrize("steps", [(RULE,), (RULE, "remove_dead_nodes")])
def test_fires(steps: tuple[str, ...]) -> None:
    model = model_with(choose("positive", "y"), outputs=["y"])
    after = rewrite(model, *steps)
    assert after.fired[RULE] == 1
    choice = after.model.graph.node[-1]
    assert (choice.name, list(choice.input)) == ("choice of y", ["negative"])
    assert after.ops.get("Not", 0) == (1 if len(steps) == 1 else 0)
    assert_same_on_both_sides(model, after.model)


def test_leaves_the_negation_to_its_other_users() -> None:
    model = model_with(choose("positive", "y"), choose("positive", "z"), outputs=["y", "z", "positive"])
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired == {RULE: 2}
    assert after.ops["Not"] == 1
    assert_same_on_both_sides(model, after.model)


def test_fires_twice_on_a_double_negation() -> None:
    again = helper.make_node("Not", ["positive"], ["again"])
    model = model_with(again, choose("again", "y"), outputs=["y"])
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 2
    assert "Not" not in after.ops
    assert_same_on_both_sides(model, after.model)
