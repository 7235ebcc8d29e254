"""fold_static_dims: reading known dims of a shape that has unknown ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, make_model, rewrite

RULE = "fold_static_dims"
DIMS: list[int | str | None] = ["batch", 3, 5, 7]


def reading(node: onnx.NodeProto, constants: dict[str, np.ndarray], **span: Any) -> onnx.ModelProto:
    """Shape of x [batch, 3, 5, 7], read by a node from `s` to `d`, and Identity."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], **span),
        node,
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
    "in two dimensions": gather([[2, -1]]),
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
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out(case: str) -> None:
    model = KEPT[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"a dim that is read is not static": 1}
    assert_same_answers(model, after.model)


def test_keeps_out_of_an_index_that_comes_with_each_run() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ArgMax", ["x"], ["i"], axis=0, keepdims=0),
        helper.make_node("Gather", ["s", "i"], ["y"]),
    ]
    model = make_model(nodes, {"x": [2, 3]}, ["y"])
    after = rewrite(model, RULE)
    assert (after.fired, after.declined) == ({}, {})
    assert_same_answers(model, after.model)


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
