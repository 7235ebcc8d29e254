"""fold_static_dims: reading known dims of a shape that has unknown ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_static_dims"
DIMS: list[int | str | None] = ["batch", 3, 5, 7]


def reading(reader: onnx.NodeProto, constants: dict[str, np.ndarray], **span: Any) -> onnx.ModelProto:
    """Shape of x [batch, 3, 5, 7], read by a node from `s` to `d`, and Identity."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], **span),
        reader,
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    return make_model(nodes, {"x": DIMS}, ["y"], constants)


def gather(indices: object, **span: Any) -> onnx.ModelProto:
    """Gather of some dims."""
    return reading(helper.make_node("Gather", ["s", "i"], ["d"]), {"i": np.asarray(indices)}, **span)


def cut(*bounds: int, **span: Any) -> onnx.ModelProto:
    """Slice with starts, ends, and perhaps axes and steps."""
    names = ["starts", "ends", "axes", "steps"][: len(bounds)]
    constants = {name: np.array([bound]) for name, bound in zip(names, bounds, strict=True)}
    return reading(helper.make_node("Slice", ["s", *names], ["d"]), constants, **span)


FOLDED = {
    "one dim": gather(1),
    "one dim from the end": gather(-1),
    "several": gather([2, 1, 1]),
    "of a span": gather(0, start=2),
    "of a span that begins at the end": gather([0, 1], start=-2, end=4),
    "a slice": cut(1, 3),
    "to the end": cut(2, np.iinfo(np.int64).max),
    "from the end": cut(-2, 4, 0),
    "with a step": cut(1, 4, 0, 2),
    "backwards": cut(3, 0, 0, -1),
    "backwards from the end": cut(-1, -3, 0, -1),
    "nothing": cut(3, 1),
    "of a span, a slice": cut(0, 1, start=1),
}
KEPT = {
    "the batch": gather(0),
    "the batch from the end": gather(-4),
    "the batch among others": gather([1, 0]),
    "a slice with the batch": cut(0, 2),
    "backwards to the batch": cut(1, -9, 0, -1),
}


@pytest.mark.parametrize("case", FOLDED)
def test_folds(case: str) -> None:
    model = FOLDED[case]
    after = rewrite(model, RULE)
    assert after.fired[RULE] >= 1
    assert after.ops == {"Identity": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out(case: str) -> None:
    model = KEPT[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined[RULE]) == {"a dim that is read is not static"}
    assert_same_answers(model, after.model)


def test_keeps_out_of_an_index_that_comes_with_each_run() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ArgMax", ["x"], ["i"], axis=0, keepdims=0),
        helper.make_node("Gather", ["s", "i"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["n", 3]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model, random_feeds(model, n=1))


def test_the_shape_stays_for_others() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "i"], ["d"]),
        helper.make_node("Mul", ["s", "d"], ["y"]),
    ]
    model = make_model(nodes, {"x": DIMS}, ["y"], {"i": np.array(1)})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Shape": 1, "Mul": 1}
    assert_same_answers(model, after.model)


def arithmetic(*steps: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """Nodes from `s`, the shape of x [batch, 3, 5, 7], to `y`."""
    nodes = [helper.make_node("Shape", ["x"], ["s"]), *steps]
    return make_model(nodes, {"x": DIMS}, ["y"], {name: np.asarray(each) for name, each in constants.items()})


COMPUTED = {
    "the batch cancels out": arithmetic(
        node("Slice", "s zero one", "b"), node("Div", "b b", "q"), node("Identity", "q", "y"),
        zero=[0], one=[1],
    ),
    "a product over a product": arithmetic(
        node("ReduceProd", "s", "all", axes=[0]),
        node("Slice", "s zero two", "some"),
        node("ReduceProd", "some", "part", axes=[0]),
        node("Div", "all part", "q"), node("Identity", "q", "y"), zero=[0], two=[2],
    ),
    "no dim is -1": arithmetic(
        node("Equal", "s minus", "e"), node("Where", "e s ones", "w"), node("Identity", "w", "y"),
        minus=[-1] * 4, ones=[1] * 4,
    ),
    "a dim is at least 0": arithmetic(
        node("Slice", "s zero one", "b"), node("Max", "b zero", "m"), node("Sub", "m b", "d"),
        node("Identity", "d", "y"), zero=[0], one=[1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPUTED)
def test_folds_arithmetic(case: str) -> None:
    model = COMPUTED[case]
    after = rewrite(model, RULE)
    assert after.fired[RULE] >= 1
    assert after.ops == {"Identity": 1}
    assert_same_answers(model, after.model)


OPEN = {
    "a dim may be 0": arithmetic(node("Equal", "s zeros", "y"), zeros=[0] * 4),
    "a dim may be 1": arithmetic(node("Greater", "s ones", "y"), ones=[1] * 4),
    "a product of 32 bits may wrap": arithmetic(
        node("Cast", "s", "c", to=TensorProto.INT32), node("Mul", "c big", "m"), node("Div", "m c", "y"),
        big=np.full(4, 2**30, np.int32),
    ),
    "halves are rounded": arithmetic(
        node("Slice", "s zero one", "b"), node("Div", "b two", "h"), node("Mul", "h two", "d"),
        node("Sub", "d b", "y"), zero=[0], one=[1], two=[2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_keeps_out_of_arithmetic_that_depends_on_the_batch(case: str) -> None:
    model = OPEN[case]
    after = rewrite(model, RULE)
    last = model.graph.node[-1].op_type
    assert last in after.ops
    assert set(after.declined[RULE]) == {"a dim that is read is not static"}
    for batch in (1, 3):
        assert_same_answers(model, after.model, random_feeds(model, batch=batch))
