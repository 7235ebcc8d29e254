"""eliminate_unused_outputs: which outputs an operator can go without."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, batch_norm_weights, make_model, node, rewrite
from tests.passes.ifs import DIMS, assert_same_on_both_sides, branch, choice, model_of, step

RULE = "eliminate_unused_outputs"


@pytest.mark.parametrize("used", ["a", "b", "c"])
def test_an_if_and_what_its_branches_compute(used: str) -> None:
    def body(op: str) -> onnx.GraphProto:
        return branch([node(op, "x", "p"), node("Exp", "x", "q"), node("Sin", "p", "r")], "p q r")

    model = model_of([choice("a b c", body("Neg"), body("Abs"))], used)
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert list(after.model.graph.node[-1].output) == [used]
    assert after.ops.get("Exp", 0) == (2 if used == "b" else 0)
    assert_same_on_both_sides(model, after.model)


def recurrent(op: str, outputs: list[str], used: str) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * 2
    weights = {
        "w": rng.normal(size=(1, gates, 3)).astype(np.float32),
        "r": rng.normal(size=(1, gates, 2)).astype(np.float32),
    }
    nodes = [helper.make_node(op, ["x", "w", "r"], outputs, hidden_size=2), node("Neg", used, "out")]
    return make_model(nodes, {"x": [5, 2, 3]}, ["out"], weights)


@pytest.mark.parametrize(
    ("op", "outputs", "used", "left"),
    [
        ("LSTM", ["y", "h", "c"], "y", ["y"]),
        ("LSTM", ["y", "h", "c"], "h", ["", "h"]),
        ("LSTM", ["y", "h", "c"], "c", ["", "", "c"]),
        ("GRU", ["y", "h"], "h", ["", "h"]),
        ("RNN", ["y", "h"], "y", ["y"]),
    ],
)
def test_recurrent_operators(op: str, outputs: list[str], used: str, left: list[str]) -> None:
    model = recurrent(op, outputs, used)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert list(after.model.graph.node[0].output) == left
    assert_same_answers(model, after.model)


OPTIONAL = {
    "MaxPool": (helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2]), [1, 2, 4], ["y"]),
    "Dropout": (helper.make_node("Dropout", ["x"], ["y", "m"]), [2, 4], ["y"]),
    "LayerNormalization": (
        helper.make_node("LayerNormalization", ["x", "s"], ["y", "m", "d"]),
        [2, 4],
        ["y"],
    ),
    "Unique": (helper.make_node("Unique", ["x"], ["y", "f", "i", "n"]), [4], ["y"]),
}


@pytest.mark.parametrize("case", OPTIONAL)
def test_optional_outputs(case: str) -> None:
    each, dims, left = OPTIONAL[case]
    weights = {"s": np.array([1, 2, -1, 3], np.float32)}
    model = make_model([each, node("Neg", "y", "out")], {"x": dims}, ["out"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert list(after.model.graph.node[0].output) == left
    assert_same_answers(model, after.model)


def test_the_stacked_result_of_a_loop() -> None:
    body = step(
        [node("Add", "h x", "g"), node("Neg", "g", "n"), node("Abs", "g", "m")], ["h"], ["g", "n", "m"]
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["last", "unused", "stacked"], body=body)
    flat = [node("Reshape", f"{name} flat", f"{name}_flat") for name in ("last", "stacked")]
    weights = {"count": np.array(3), "flat": np.array([-1])}
    model = make_model([loop, *flat], {"x": DIMS}, ["last_flat", "stacked_flat"], weights)
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert "Neg" not in after.ops
    assert list(after.model.graph.node[0].output) == ["last", "stacked"]
    assert_same_answers(model, after.model)


def test_keeps_a_value_that_a_loop_carries() -> None:
    body = step([node("Add", "h x", "g"), node("Neg", "g", "n")], ["h"], ["g", "n"])
    loop = helper.make_node("Loop", ["count", "", "x"], ["unused", "stacked"], body=body)
    nodes = [loop, node("Reshape", "stacked flat", "y")]
    model = make_model(nodes, {"x": DIMS}, ["y"], {"count": np.array(3), "flat": np.array([-1])})
    assert rewrite(model, RULE).fired == {}


def test_keeps_batch_normalization_in_training() -> None:
    each = helper.make_node(
        "BatchNormalization",
        ["x", "gamma", "beta", "mean", "var"],
        ["y", "running_mean", "running_var"],
        training_mode=1,
    )
    model = make_model([each], {"x": [2, 3, 4]}, ["y"], batch_norm_weights(3))
    assert rewrite(model, RULE).fired == {}


@pytest.mark.parametrize("outputs", [["y", "i"], ["i", "y"]])
def test_keeps_what_the_graph_returns(outputs: list[str]) -> None:
    each = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2])
    model = make_model([each], {"x": [1, 2, 4]}, outputs)
    assert rewrite(model, RULE).fired == {}
