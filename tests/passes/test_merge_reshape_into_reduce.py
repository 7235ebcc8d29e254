"""merge_reshape_into_reduce: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, node, random_feeds
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "merge_reshape_into_reduce"
DIMS = ("batch", 4, "height", "width")
OTHERS = "other axes come back"


def squeezed(
    target: list[int], axes: list[int], *, op_type: str = "ReduceMean", keepdims: int = 0
) -> Spelling:
    """A reduction and a Reshape."""
    nodes = (
        node(op_type, "x axes", "r", keepdims=keepdims),
        node("Reshape", "r target", "y"),
    )
    return Spelling(nodes, {"axes": np.array(axes), "target": np.array(target)})


def model(target: list[int], axes: list[int], dims: tuple[int | str, ...] = DIMS) -> onnx.ModelProto:
    return squeezed(target, axes).model(dims, opset=18)


PLAIN = squeezed([-1, 4, 1, 1], [2, 3])


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_merges_spatial_axes(axes: list[int]) -> None:
    assert_fuses(model([-1, 4, 1, 1], axes), RULE, leaves={"ReduceMean": 1})


def test_merges_known_dims_and_channels_last() -> None:
    assert_fuses(model([2, 4, 1, 1], [2, 3], (2, 4, 3, 3)), RULE, leaves={"ReduceMean": 1})
    assert_fuses(model([2, -1, 1, 1], [2, 3], (2, 4, 3, 3)), RULE, leaves={"ReduceMean": 1})
    assert_fuses(model([-1, 1, 1, 8], [1, 2], ("batch", 3, 3, 8)), RULE, leaves={"ReduceMean": 1})


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"])
def test_merges_other_reductions(op_type: str) -> None:
    spelling = squeezed([-1, 4, 1, 1], [2, 3], op_type=op_type)
    assert_fuses(spelling.model(DIMS, opset=18), RULE, leaves={op_type: 1})


def test_merges_axes_as_an_attribute() -> None:
    nodes = (node("ReduceMean", "x", "r", axes=[2, 3], keepdims=0), PLAIN.nodes[1])
    spelling = Spelling(nodes, {"target": PLAIN.weights["target"]})
    assert_fuses(spelling.model(DIMS, opset=13), RULE, leaves={"ReduceMean": 1})


def test_merges_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(PLAIN, RULE, DIMS, 18)


def test_keeps_the_shape_of_an_empty_batch() -> None:
    before = model([-1, 4, 1, 1], [2, 3])
    after = assert_fuses(before, RULE, leaves={"ReduceMean": 1}).model
    assert_same_answers(before, after, random_feeds(before, batch=0))


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(PLAIN, RULE, DIMS, 18)


@pytest.mark.parametrize(
    ("target", "dims"),
    [
        ([-1, 1, 1, 4], DIMS),
        ([1, 1, -1, 4], DIMS),
        ([-1, 4], DIMS),
        ([-1, 4, 1, 1, 1], DIMS),
        ([-1, 2, 1, 1], DIMS),
        ([3, -1, 1, 1], DIMS),
        ([-1, 4, 1, 1], ("batch", "channels", 3, 3)),
        ([0, 4, 1, 1], DIMS),
    ],
    ids=str,
)
def test_keeps_out_of_other_targets(target: list[int], dims: tuple[int | str, ...]) -> None:
    assert_stays(model(target, [2, 3], dims), RULE, OTHERS)


@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"])
@pytest.mark.parametrize("target", [[-1, 4], [0, 4], [0, -1]], ids=str)
def test_drops_the_axes_that_go(target: list[int], op_type: str) -> None:
    before = squeezed(target, [2, 3], op_type=op_type, keepdims=1).model(DIMS, opset=18)
    after = assert_fuses(before, RULE, leaves={op_type: 1}).model
    assert [each.attribute[0].i for each in after.graph.node] == [0]
    if target != [0, -1]:  # which onnxruntime refuses of an empty batch
        assert_same_answers(before, after, random_feeds(before, batch=0))


def test_drops_the_axes_that_flatten_takes_away() -> None:
    nodes = (node("ReduceMean", "x axes", "r"), node("Flatten", "r", "y"))
    assert_fuses(
        Spelling(nodes, {"axes": np.array([3, 2])}).model(DIMS, opset=18), RULE, leaves={"ReduceMean": 1}
    )


def test_drops_axes_as_an_attribute() -> None:
    nodes = (node("ReduceMean", "x", "r", axes=[-1, 1]), node("Reshape", "r target", "y"))
    before = Spelling(nodes, {"target": np.array([-1, 3])}).model(("batch", 4, 3, 5), opset=13)
    assert_fuses(before, RULE, leaves={"ReduceMean": 1})


@pytest.mark.parametrize(
    ("target", "dims"),
    [
        ([-1, 2], DIMS),
        ([4, -1], DIMS),
        ([-1], DIMS),
        ([-1, 4, 1], DIMS),
        ([-1, 4], ("batch", "channels", 3, 3)),
    ],
    ids=str,
)
def test_keeps_out_where_other_axes_go(target: list[int], dims: tuple[int | str, ...]) -> None:
    assert_stays(squeezed(target, [2, 3], keepdims=1).model(dims, opset=18), RULE, "other axes go")


def test_keeps_out_of_a_flatten_of_what_has_gone() -> None:
    nodes = (node("ReduceMean", "x axes", "r", keepdims=0), node("Flatten", "r", "y"))
    assert_stays(Spelling(nodes, {"axes": np.array([2, 3])}).model(DIMS, opset=18), RULE, OTHERS)


def test_keeps_out_of_a_target_that_may_come_with_a_run() -> None:
    assert_stays(PLAIN.model(DIMS, opset=18, overridable=["target"]), RULE, "")


def test_keeps_out_of_axes_that_may_come_with_a_run() -> None:
    assert_stays(PLAIN.model(DIMS, opset=18, overridable=["axes"]), RULE, "the axes are unknown")
