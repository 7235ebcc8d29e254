"""merge_equal_shapes: what stays apart and why, then what is merged."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "merge_equal_shapes"
CONSTANTS = {
    "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "i0": np.array(0), "i1": np.array(1),
    "w": np.ones((3, 4), np.float32),
}  # fmt: skip


def model_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """Nodes from x [b, n, 3], with h [b, n, 4] computed from it."""
    graph = [node("MatMul", "x w", "h"), node("Shape", "x", "s"), node("Shape", "h", "t"), *nodes]
    read = {name for each in graph for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in read}
    return make_model(graph, {"x": ["b", "n", 3]}, outputs, constants)


APART = {
    "two dims": model_of(node("Gather", "s i0", "a"), node("Gather", "t i1", "c"), node("Sub", "a c", "y")),
    "a scalar and a list": model_of(
        node("Gather", "s i0", "a"), node("Gather", "t zero", "c"), node("Concat", "c c", "d", axis=0),
        node("Sub", "d a", "y"),
    ),
    "two types": model_of(
        node("Gather", "s i0", "a"), node("Cast", "a", "c", to=TensorProto.INT32),
        node("Cast", "c", "d", to=TensorProto.FLOAT), node("Cast", "a", "e", to=TensorProto.FLOAT),
        node("Sub", "d e", "y"),
    ),
    "both are outputs": model_of(
        node("Gather", "s i0", "y"), node("Gather", "t i0", "z"), outputs=("y", "z")
    ),
}  # fmt: skip
MERGED = {
    "a dim of two tensors": model_of(
        node("Gather", "s i0", "a"), node("Gather", "t i0", "c"), node("Mul", "a c", "y")
    ),
    "a dim read in two ways": model_of(
        node("Gather", "s one", "a"), node("Slice", "t one two zero", "c"), node("Concat", "a c", "y", axis=0)
    ),
    "a computed dim": model_of(
        node("Gather", "s i0", "a"), node("Add", "a a", "c"), node("Size", "h", "d"), node("Size", "x", "e"),
        node("Sub", "d e", "f"), node("Gather", "s i1", "g"), node("Div", "f g", "k"),
        node("Mul", "c k", "y"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", APART)
def test_stays_apart(case: str) -> None:
    model = APART[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert len(after.model.graph.node) == len(model.graph.node)
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


@pytest.mark.parametrize("case", MERGED)
def test_merges(case: str) -> None:
    model = MERGED[case]
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(after.model.graph.node) == len(model.graph.node) - 1
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


def test_an_output_takes_over_the_name() -> None:
    nodes = [node("Gather", "s i0", "a"), node("Neg", "a", "m"), node("Gather", "t i0", "y")]
    model = model_of(*nodes, outputs=("m", "y"))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


def test_branches_see_what_was_computed_before_but_not_each_other() -> None:
    def branch(name: str) -> onnx.GraphProto:
        r, a, c, y = (f"{name}_{each}" for each in "racy")
        inner = [node("Shape", "h", r), node("Gather", f"{r} i0", a), node("Gather", f"{r} i1", c)]
        inner.append(node("Add", f"{a} {c}", y))
        return helper.make_graph(
            inner, name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.INT64, [])]
        )

    nodes = [
        node("Gather", "s i0", "d"),
        node("Gather", "s i1", "e"),
        node("Greater", "d e", "flag"),
        node("If", "flag", "y", then_branch=branch("then"), else_branch=branch("else")),
    ]
    model = model_of(*nodes, outputs=("y",))
    for name in ("i0", "i1"):
        assert name in {each.name for each in model.graph.initializer}
    after = rewrite(model, RULE)
    assert after.fired[RULE] == 6  # Shape and both Gathers of each branch
    for b, n in ((2, 5), (5, 2)):
        assert_same_answers(model, after.model, random_feeds(model, b=b, n=n))


def test_merges_what_turns_out_to_be_the_same() -> None:
    """Until both branches are seen to give n, nothing is known of the sum of what the If gives."""

    def info(name: str, *dims: int, dtype: int = TensorProto.INT64) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, dtype, dims)

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        nodes = [node("Identity", "n", f"{name}_same"), node(op_type, "n", f"{name}_other")]
        return helper.make_graph(nodes, name, [], [info(f"{name}_same", 1), info(f"{name}_other", 1)])

    branches = {"then_branch": branch("then", "Neg"), "else_branch": branch("else", "Abs")}
    nodes = [
        node("If", "flag", "same other", **branches),
        node("ReduceSum", "same zero", "a", keepdims=0),
        node("ReduceMax", "n", "b", axes=[0], keepdims=0),
        node("Sub", "other b", "c"),
    ]
    inputs = [info("n", 1), info("flag", dtype=TensorProto.BOOL)]
    zero = onnx.numpy_helper.from_array(CONSTANTS["zero"], "zero")
    graph = helper.make_graph(nodes, "test", inputs, [info("a"), info("c", 1)], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    after = rewrite(model)
    assert after.fired[RULE] == 1
    for flag in (True, False):
        assert_same_answers(model, after.model, {"n": np.array([-3]), "flag": np.array(flag)})
    assert rewrite(after.model).fired == {}


@pytest.mark.parametrize("op_type", ["Max", "Min"])
def test_numbers_of_either_sign_stay_apart_from_what_they_are_clamped_to(op_type: str) -> None:
    """Sizes are at least 0; what the elements of an input are is unknown."""
    nodes = [node("Squeeze", "n", "k"), node(op_type, "zero k", "m"), node("Sub", "m k", "y")]
    model = make_model(nodes, {"n": [3, 1]}, ["y"], {"zero": np.array([0])}, dtype=TensorProto.INT64)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model, {"n": np.array([[3], [-1], [0]])})
