"""merge_reshapes: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers import assert_same_answers, node, random_feeds, rewrite, run_reference
from tests.io.models import info, model_of
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "merge_reshapes"
DIMS = ("n", 4, 6)


def pair(
    first: Sequence[int], second: Sequence[int], dims: Dims = DIMS, *, outputs: Sequence[str] = ("out",)
) -> onnx.ModelProto:
    nodes = [node("Reshape", "x a", "t"), node("Reshape", "t b", "y")]
    return chain(nodes, dims, ints(a=first, b=second), outputs=outputs)


def target_of(model: onnx.ModelProto) -> list[int]:
    (reshape,) = (each for each in model.graph.node if each.op_type == "Reshape")
    (tensor,) = (each for each in model.graph.initializer if each.name == reshape.input[1])
    values: list[int] = onnx.numpy_helper.to_array(tensor).tolist()
    return values


@pytest.mark.parametrize(
    ("dims", "first", "second", "target"),
    [
        pytest.param(DIMS, [-1, 24], [-1, 2, 12], [-1, 2, 12], id="no copies"),
        pytest.param(DIMS, [-1, 8, 3], [0, 0, 3], [0, 8, 3], id="a dim that is open and one that is known"),
        pytest.param(DIMS, [0, 2, 12], [0, 24], [0, 24], id="the first copies the same dim"),
        pytest.param(DIMS, [0, 2, 12], [0, -1], [0, -1], id="and the rest is open"),
        pytest.param(DIMS, [0, 2, 12], [0, 0, 4, 3], [0, 2, 4, 3], id="copies a number"),
        pytest.param(DIMS, [-1, 24], [0, 4, 6], [0, 4, 6], id="back"),
        pytest.param([3, 4, 6], [12, 6], [0, 2, 3], [12, 2, 3], id="static"),
    ],
)
def test_fires(dims: Dims, first: Sequence[int], second: Sequence[int], target: Sequence[int]) -> None:
    model = pair(first, second, dims)
    after = assert_merges(RULE, model, {"Reshape": 1}, feeds=random_feeds(model, n=5))
    assert target_of(after.model) == target


def test_fires_on_zero_sizes_alike() -> None:
    model = pair([-1, 8, 3], [-1, 24])
    after = rewrite(model, RULE)
    feeds = {"in": np.zeros((0, 4, 6), np.float32)}
    assert run_reference(model, feeds)["out"].shape == (0, 24)
    assert_same_answers(model, after.model, feeds)


def test_fires_with_allowzero_on_a_computed_target() -> None:
    nodes = [
        node("Shape", "x", "dims"),
        node("Reshape", "x a", "t"),
        node("Reshape", "t dims", "y", allowzero=1),
    ]
    model = chain(nodes, DIMS, ints(a=[-1, 24]))
    assert_merges(RULE, model, {"Shape": 1, "Reshape": 1})
    assert_same_answers(model, rewrite(model, RULE).model, {"in": np.zeros((0, 4, 6), np.float32)})


@pytest.mark.parametrize(
    ("nodes", "weights", "target"),
    [
        ([node("Reshape", "x a", "t"), node("Flatten", "t", "y")], ints(a=[0, 2, 2, 6]), [0, 24]),
        ([node("Reshape", "x a", "t"), node("Flatten", "t", "y", axis=2)], ints(a=[-1, 2, 2, 6]), [-1, 12]),
        ([node("Reshape", "x a", "t"), node("Unsqueeze", "t b", "y")], ints(a=[0, 24], b=[1]), [0, 1, 24]),
        ([node("Reshape", "x a", "t"), node("Squeeze", "t b", "y")], ints(a=[0, 1, 24], b=[1]), [0, 24]),
        ([node("Flatten", "x", "t"), node("Reshape", "t b", "y")], ints(b=[0, 6, 4]), [0, 6, 4]),
        ([node("Unsqueeze", "x b", "t"), node("Reshape", "t a", "y")], ints(a=[0, 1, 0, 3, 2], b=[1]), None),
        ([node("Squeeze", "u b", "t"), node("Reshape", "t a", "y")], ints(a=[0, 3, 8], b=[1]), [0, 3, 8]),
    ],
)
def test_fires_on_relatives(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], target: list[int] | None
) -> None:
    if nodes[0].input[0] == "u":
        nodes = [node("Unsqueeze", "x b", "v"), node("Neg", "v", "u"), *nodes]
    after = rewrite(chain(nodes, DIMS, weights), RULE)
    assert after.fired == {RULE: 1}
    assert target_of(after.model) == (target or [0, 1, 4, 3, 2])
    assert_same_answers(chain(nodes, DIMS, weights), after.model)


@pytest.mark.parametrize(
    ("dims", "first", "second"),
    [
        pytest.param(["n", "m", 6], [0, -1, 3], [0, 0, 1, 3], id="an open dim beside a copy"),
        pytest.param([0, 4, 6], [4, 0, 6], [0, 0, 3, 2], id="an axis of size 0"),
    ],
)
def test_keeps(dims: Dims, first: Sequence[int], second: Sequence[int]) -> None:
    nodes = [node("Reshape", "x a", "t"), node("Reshape", "t b", "y")]
    nodes[0] = node("Reshape", "x a", "t", allowzero=int(0 in dims))
    model = chain(nodes, dims, ints(a=first, b=second))
    assert_stays(RULE, model, "too many dims are unknown")


def test_keeps_copies_that_would_move() -> None:
    nodes = [node("Reshape", "x a", "t"), node("Unsqueeze", "t b", "y")]
    model = chain(nodes, ["n", "m", 6], ints(a=[0, 0, 2, 3], b=[0]))
    assert_stays(RULE, model, "too many dims are unknown")


def test_keeps_a_computed_target_that_may_copy() -> None:
    nodes = [node("Shape", "x", "dims"), node("Reshape", "x a", "t"), node("Reshape", "t dims", "y")]
    assert_stays(RULE, chain(nodes, DIMS, ints(a=[-1, 24])), "too many dims are unknown")


def test_keeps_what_others_use() -> None:
    model = pair([-1, 24], [-1, 2, 12], outputs=["out", "t"])
    assert_stays(RULE, model, "the result of Reshape has other users")


def test_a_round_trip_goes_though_others_use_the_first() -> None:
    model = pair([-1, 24], [-1, 4, 6], outputs=["out", "t"])
    after = rewrite(model, RULE, "eliminate_noop_reshape")
    assert after.fired == {RULE: 1, "eliminate_noop_reshape": 1}
    assert_same_answers(model, after.model)


def test_fires_once_the_rank_is_known() -> None:
    """What is read of a shape tells the target, and so the rank, only after another look at the shapes."""
    nodes = [
        node("Flatten", "x", "f", axis=0),
        node("Shape", "x", "shape"),
        node("Slice", "shape zero one zero", "dim"),
        node("Concat", "dim", "target", axis=0),
        node("Reshape", "f target", "y"),
        node("Neg", "f", "z"),
    ]
    weights = [numpy_helper.from_array(data, name) for name, data in ints(zero=[0], one=[1]).items()]
    outputs = [info("y", ["n"]), info("z", [1, "n"])]
    model = model_of(helper.make_graph(nodes, "test", [info("x", ["n"])], outputs, weights), opset=13)
    after = rewrite(model)
    assert after.fired[RULE] == 1
    assert_same_answers(model, after.model)
    assert rewrite(after.model).fired == {}
