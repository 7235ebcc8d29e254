"""eliminate_noop_resizing: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "eliminate_noop_resizing"
CONSTANTS = {
    "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "minus": np.array([-1]),
    "ones": np.array([1, 1]), "flip": np.array([-1]), "last": np.array([-9]),
}  # fmt: skip


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Nodes from x [a, b], with `s` its shape and `n` its second dim, to `d`; then Neg to y."""
    graph = [
        node("Shape", "x", "s"), node("Shape", "x", "n", start=1), node("Shape", "x", "m", end=1),
        *nodes, node("Neg", "d", "y"),
    ]  # fmt: skip
    read = {name for each in graph for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in read}
    return make_model(graph, {"x": ["a", "b"]}, ["y"], constants)


DROPPED = {
    "Reshape to its own shape": model_of(node("Reshape", "x s", "d")),
    "Reshape to its own dims": model_of(node("Concat", "minus n", "t", axis=0), node("Reshape", "x t", "d")),
    "Expand to its own shape": model_of(node("Expand", "x s", "d")),
    "Expand with a dim of 1": model_of(node("Concat", "one n", "t", axis=0), node("Expand", "x t", "d")),
    "Slice to the dim": model_of(node("Slice", "x zero n one", "d")),
    "Slice past the dim": model_of(node("Add", "n n", "e"), node("Slice", "x zero e one", "d")),
    "Slice from the dim backwards": model_of(node("Sub", "n n", "st"), node("Slice", "x st n one", "d")),
    "Tile once": model_of(node("Div", "s s", "t"), node("Tile", "x t", "d")),
}
KEPT = {
    "Reshape to the dims swapped": model_of(node("Concat", "n m", "t", axis=0), node("Reshape", "x t", "d")),
    "Expand by a dim": model_of(node("Concat", "n one one", "t", axis=0), node("Expand", "x t", "d")),
    "Slice to another dim": model_of(node("Slice", "x zero m one", "d")),
    "Slice but one": model_of(node("Sub", "n one", "e"), node("Slice", "x zero e one", "d")),
    "Tile by a dim": model_of(node("Concat", "one n", "t", axis=0), node("Tile", "x t", "d")),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model = KEPT[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the dims may change": 1}}
    assert_same_answers(model, after.model, random_feeds(model, a=3, b=5))


def test_keeps_a_slice_that_turns_the_axis_round() -> None:
    model = model_of(
        node("Sub", "n one", "st"), node("Slice", "x st last one flip", "d"), node("Neg", "x", "unused")
    )
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the step may not be 1": 1}}
    assert_same_answers(model, after.model, random_feeds(model, a=3, b=5))


@pytest.mark.parametrize("case", DROPPED)
def test_drops(case: str) -> None:
    model = DROPPED[case]
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert after.ops == {"Neg": 1}
    assert_same_answers(model, after.model, random_feeds(model, a=3, b=5))
    assert_same_answers(model, after.model, random_feeds(model, a=1, b=1))


def test_dims_without_a_name_are_unrelated() -> None:
    """Two inputs with dims `?`: the shape of one says nothing of the other."""
    nodes = [node("Shape", "z", "s"), node("Reshape", "x s", "y")]
    model = make_model(nodes, {"x": ["?", "?"], "z": ["?", "?"]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    feeds = {"x": np.ones((2, 6), np.float32), "z": np.ones((3, 4), np.float32)}
    assert_same_answers(model, after.model, feeds)
