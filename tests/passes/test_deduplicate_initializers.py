"""deduplicate_initializers: equal means equal in type, shape and every bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite

RULE = "deduplicate_initializers"
LARGE = np.random.default_rng(0).normal(size=3000).astype(np.float32)
"""Larger than the sample that is compared first."""


def bits(*words: int) -> np.ndarray:
    return np.array(words, np.uint32).view(np.float32)


def changed_at_the_end() -> np.ndarray:
    array = LARGE.copy()
    array[-1] += 1
    return array


def both(w: np.ndarray, v: np.ndarray, **options: object) -> onnx.ModelProto:
    """A model whose outputs are two weights."""
    nodes = [helper.make_node("Identity", ["w"], ["a"]), helper.make_node("Identity", ["v"], ["b"])]
    return make_model(nodes, {}, ["a", "b"], {"w": w, "v": v}, **options)  # type: ignore[arg-type]


APART = {
    "zero and negative zero": (bits(0), bits(0x80000000)),
    "two kinds of NaN": (bits(0x7FC00000), bits(0x7FC00123)),
    "signed and unsigned": (np.array([1], np.int32), np.array([1], np.uint32)),
    "the same bits as another type": (bits(1), np.array([1], np.int32)),
    "half and bfloat": (np.zeros(2, np.float16), np.zeros(2, np.int16)),
    "another shape": (np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)),
    "number and vector": (f32(1), f32([1])),
    "large, and changed at the end": (LARGE, changed_at_the_end()),
}
SAME = {
    "floats": (f32([1, 2]), f32([1, 2])),
    "numbers": (f32(1), f32(1)),
    "NaN of one kind": (bits(0x7FC00123), bits(0x7FC00123)),
    "nothing": (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)),
    "bools": (np.array([True]), np.array([True])),
    "large": (LARGE, LARGE.copy()),
}


@pytest.mark.parametrize("case", SAME)
def test_merges(case: str) -> None:
    model = both(*SAME[case])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert [tensor.name for tensor in after.model.graph.initializer] == ["w"]
    assert_same_answers(model, after.model, {}, rtol=0)


@pytest.mark.parametrize("case", APART)
def test_keeps_apart(case: str) -> None:
    model = both(*APART[case])
    after = rewrite(model, RULE)
    assert after.fired == {}
    before = {each.name: numpy_helper.to_array(each).tobytes() for each in model.graph.initializer}
    assert {
        each.name: numpy_helper.to_array(each).tobytes() for each in after.model.graph.initializer
    } == before


def test_the_way_a_tensor_is_stored_does_not_matter() -> None:
    model = both(f32([1, 2]), f32([1, 2]))
    model.graph.initializer[1].CopyFrom(helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]))
    assert not model.graph.initializer[1].raw_data
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, {})


@pytest.mark.parametrize(("second", "fires"), [(["a", "b"], True), (["a", "c"], False), (["ab", ""], False)])
def test_strings(second: list[str], fires: bool) -> None:
    model = both(np.array(["a", "b"], object), np.array(second, object))
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: 1} if fires else {})
    assert_same_answers(model, after.model, {})


def test_three_become_one() -> None:
    weights = {name: f32([1, 2]) for name in "uvw"}
    model = make_model([helper.make_node("Sum", [*weights, "x"], ["y"])], {"x": [2]}, ["y"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("overridable", ["w", "v"])
def test_keeps_what_the_caller_may_override(overridable: str) -> None:
    model = both(f32([1, 2]), f32([1, 2]), overridable=[overridable])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model, {overridable: f32([5, 6])})


def test_keeps_a_graph_output() -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    model = make_model(nodes, {"x": [2]}, ["y"], {"w": f32([1, 2]), "v": f32([1, 2])})
    model.graph.output.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, [2]))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_bodies_keep_their_own() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["x", "p", "q"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])],
            [numpy_helper.from_array(f32([1, 2]), each) for each in "pq"],
        )
        for name, op in (("then", "Sum"), ("else", "Max"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    model = make_model(nodes, {"x": [2]}, ["y"], {"zero": f32(0)})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for sign in (1, -1):
        assert_same_answers(model, after.model, {"x": f32([sign, sign])})


@pytest.mark.parametrize(("size", "merged"), [(3000, 2), (3, 0)])
def test_bodies_read_the_weights_around_them_but_keep_small_constants(size: int, merged: int) -> None:
    """Shape inference does not look for the numbers of axes and shapes outside the body."""
    weight = np.random.default_rng(0).normal(size=size).astype(np.float32)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["x", "w_" + name], [name])],
            name,
            [],
            [onnx.ValueInfoProto(name=name)],
            [numpy_helper.from_array(weight, "w_" + name)],
        )
        for name, op in (("then", "Mul"), ("else", "Add"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["v"], **branches),
        helper.make_node("Mul", ["v", "w"], ["y"]),
    ]
    model = make_model(nodes, {"x": [size]}, ["y"], {"w": weight})
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: merged} if merged else {})
    for value in (0, 1):
        assert_same_answers(model, after.model, {"x": np.full(size, value, np.float32)})
