"""fold_slice_bounds: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_slice_bounds"
CONSTANTS = {"zero": [0], "one": [1], "two": [2], "minus": [-1], "both": [0, 0], "axes": [0, 1]}


def model_of(*nodes: onnx.NodeProto, dims: tuple[int | str, ...] = ("a", "b")) -> onnx.ModelProto:
    """Nodes from x, with `n` the second dim of it, to y."""
    graph = [node("Shape", "x", "s"), node("Shape", "x", "n", start=1), *nodes]
    read = {name for each in graph for name in each.input}
    constants = {name: np.array(value) for name, value in CONSTANTS.items() if name in read}
    return make_model(graph, {"x": dims}, ["y"], constants)


KEPT = {
    "may be negative": (
        model_of(node("Sub", "n one", "e"), node("Slice", "x zero e one", "y")),
        "a bound is unknown",
    ),
    "half of it": (
        model_of(node("Div", "n two", "e"), node("Slice", "x zero e one", "y")),
        "a bound is unknown",
    ),
    "backwards": (
        model_of(node("Slice", "x n zero one minus", "y")),
        "the axes are unknown or a step is not 1",
    ),
    "by steps": (
        model_of(node("Slice", "x zero n one two", "y")),
        "the axes are unknown or a step is not 1",
    ),
}  # fmt: skip
FIRED = {
    "to the end": model_of(node("Slice", "x one n one", "y")),
    "to the end of all axes": model_of(node("Slice", "x both s axes", "y")),
    "of all axes, unnamed": model_of(node("Slice", "x both s", "y")),
    "past the end": model_of(node("Add", "n two", "e"), node("Slice", "x one e one", "y")),
    "from the end": model_of(node("Slice", "x n n one", "y")),
    "one before the end": model_of(
        node("Concat", "x x x", "g", axis=1), node("Add", "n n", "e"), node("Add", "e n", "f"),
        node("Slice", "g one f one", "y"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model, reason = KEPT[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {reason: 1}}
    assert_same_answers(model, after.model, random_feeds(model, a=3, b=5))


@pytest.mark.parametrize("case", FIRED)
def test_fires(case: str) -> None:
    model = FIRED[case]
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert set(after.ops) <= {"Slice", "Concat"}
    for b in (5, 1):
        assert_same_answers(model, after.model, random_feeds(model, a=3, b=b))


def test_counts_from_the_end() -> None:
    """A column more than x has, cut off again: the end becomes -1."""
    nodes = [
        node("Shape", "x", "n", start=1),
        node("Pad", "x pads", "g"),
        node("Slice", "g zero n one", "y"),
    ]
    constants = {"pads": np.array([0, 0, 0, 1]), "zero": np.array([0]), "one": np.array([1])}
    model = make_model(nodes, {"x": ["a", "b"]}, ["y"], constants)
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert after.ops == {"Pad": 1, "Slice": 1}
    assert [-1] in [np.frombuffer(each.raw_data, np.int64).tolist() for each in after.model.graph.initializer]
    for b in (5, 1):
        assert_same_answers(model, after.model, random_feeds(model, a=3, b=b))


def test_bounds_of_32_bits_stay_so() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Cast", "s", "e", to=onnx.TensorProto.INT32),
        node("Slice", "x starts e", "y"),
    ]
    model = make_model(nodes, {"x": ["a", "b"]}, ["y"], {"starts": np.array([1, 0], np.int32)})
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert {each.data_type for each in after.model.graph.initializer} == {onnx.TensorProto.INT32}
    assert_same_answers(model, after.model, random_feeds(model, a=3, b=5))
