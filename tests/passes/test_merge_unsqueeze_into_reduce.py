"""merge_unsqueeze_into_reduce: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite
from tests.passes.noops import assert_kept, identity

RULE = "merge_unsqueeze_into_reduce"
DIMS = ("batch", 4, 5)
REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
UNSQUEEZE = helper.make_node("Unsqueeze", ["r", "axes"], ["y"])
MEAN = helper.make_node("ReduceMean", ["x"], ["r"], axes=[1], keepdims=0, name="mean")


def mean(axes: Sequence[int]) -> NodeProto:
    return helper.make_node("ReduceMean", ["x"], ["r"], axes=axes, keepdims=0)


def numbers(axes: Sequence[int]) -> dict[str, np.ndarray]:
    return {"axes": np.array(axes, dtype=np.int64)}


def assert_merged(model: onnx.ModelProto, op: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {name: count for name, count in after.ops.items() if name not in ("Identity", "If")} == {op: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(
    ("reduction", "restored", "reason"),
    [
        pytest.param(MEAN, [0], "other axes come back", id="another axis"),
        pytest.param(MEAN, [-1], "other axes come back", id="another axis from behind"),
        pytest.param(MEAN, [1, 3], "other axes come back", id="more axes"),
        pytest.param(mean([0, 1]), [1], "other axes come back", id="fewer axes"),
        pytest.param(
            helper.make_node("ReduceMean", ["x"], ["r"], axes=[1]), [1], "", id="the axis is kept already"
        ),
        pytest.param(
            helper.make_node("ReduceMean", ["x"], ["r"], keepdims=0),
            [0, 1, 2],
            "the axes are unknown",
            id="all",
        ),
    ],
)
def test_keeps(reduction: NodeProto, restored: Sequence[int], reason: str) -> None:
    assert_kept(RULE, [reduction, UNSQUEEZE], DIMS, reason, numbers(restored))


def test_keeps_axes_that_the_caller_may_override() -> None:
    count = helper.make_node("Size", ["y"], ["count"])
    reason = "the axes are unknown"
    nodes = [MEAN, UNSQUEEZE, count]
    assert_kept(RULE, nodes, DIMS, reason, numbers([1]), outputs=["count"], overridable=["axes"])


def test_keeps_a_reduction_with_other_users() -> None:
    reason = "the result of ReduceMean has other users"
    nodes = [MEAN, UNSQUEEZE, identity("r", "other")]
    assert_kept(RULE, nodes, DIMS, reason, numbers([1]), outputs=["out", "other"])


def test_keeps_a_reduction_that_is_a_graph_output() -> None:
    reason = "the result of ReduceMean is a graph output"
    assert_kept(RULE, [MEAN, UNSQUEEZE], DIMS, reason, numbers([1]), outputs=["out", "r"])


@pytest.mark.parametrize(
    ("reduced", "restored"), [([1], [1]), ([-1], [2]), ([0, 2], [2, 0]), ([-1, 1], [1, 2]), ([-2], [-2])]
)
def test_fires_in_every_spelling_of_the_axes(reduced: Sequence[int], restored: Sequence[int]) -> None:
    model = make_model([mean(reduced), UNSQUEEZE], {"x": DIMS}, ["y"], numbers(restored))
    assert_merged(model, "ReduceMean")


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_fires_for_every_reduction(op: str, opset: int) -> None:
    by_input = opset >= 18 or (op == "ReduceSum" and opset >= 13)
    inputs, attributes = (["s", "axes"], {}) if by_input else (["s"], {"axes": [1]})
    reduction = helper.make_node(op, inputs, ["r"], name="reduction", keepdims=0, **attributes)  # type: ignore[arg-type]
    unsqueeze = UNSQUEEZE if opset >= 13 else helper.make_node("Unsqueeze", ["r"], ["y"], axes=[1])
    positive = helper.make_node("Exp", ["x"], ["s"])
    weights = numbers([1]) if opset >= 13 else {}
    model = make_model([positive, reduction, unsqueeze], {"x": DIMS}, ["y"], weights, opset=opset)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.model.graph.node[1].name == "reduction"
    assert after.ops == {"Exp": 1, op: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_fires_for_positions(op: str) -> None:
    node = helper.make_node(op, ["x"], ["r"], axis=-2, keepdims=0)
    assert_merged(make_model([node, UNSQUEEZE], {"x": DIMS}, ["y"], numbers([1])), op)


def test_fires_in_a_body() -> None:
    info = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 1, 5])
    branch = helper.make_graph([MEAN, UNSQUEEZE], "branch", [], [info])
    other = helper.make_graph([identity("x", "y")], "other", [], [info])
    choice = helper.make_node("If", ["condition"], ["out"], then_branch=branch, else_branch=other)
    weights = numbers([1]) | {"condition": np.array(True)}
    assert_merged(make_model([choice], {"x": ["batch", 1, 5]}, ["out"], weights), "ReduceMean")
