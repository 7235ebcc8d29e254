"""merge_concats, eliminate_split_concat: what they keep out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain, ints

MERGE, DROP = "merge_concats", "eliminate_split_concat"
INNER = [node("Neg", "x", "z"), node("Concat", "x z", "t", axis=1)]


@pytest.mark.parametrize(
    "outer",
    [
        node("Concat", "t x", "y", axis=1),
        node("Concat", "x t", "y", axis=-1),
        node("Concat", "t x t", "y", axis=1),
    ],
)
def test_joins_at_once(outer: NodeProto) -> None:
    assert_merges(MERGE, chain([*INNER, outer], ["n", 3]), {"Neg": 1, "Concat": 1})


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.INT64])
def test_joins_extremes(op: str, dtype: int) -> None:
    nodes = [node("Neg", "x", "z"), node(op, "c x", "t"), node(op, "z t", "y")]
    values = np.array([-1, 0, 2], np.float32 if dtype == TensorProto.FLOAT else np.int64)
    assert_merges(MERGE, chain(nodes, ["n", 3], {"c": values}, dtype=dtype), {"Neg": 1, op: 1})


def test_extremes_pass_nan_on() -> None:
    model = chain(
        [node("Max", "x c", "t"), node("Max", "d t", "y")],
        [3],
        {"c": f32([1, np.nan, 1]), "d": f32([2, 2, 2])},
    )
    assert_merges(MERGE, model, {"Max": 1}, feeds={"in": f32([np.nan, 0, 5])})


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([*INNER, node("Concat", "t t", "y", axis=0)], id="another axis"),
        pytest.param([node("Max", "x x", "t"), node("Min", "t x", "y")], id="another operator"),
    ],
)
def test_keeps(nodes: list[NodeProto]) -> None:
    assert_stays(MERGE, chain(nodes, ["n", 3]), "")


@pytest.mark.parametrize("outputs", [["out", "t"], ["out", "other"]])
def test_keeps_what_others_use(outputs: list[str]) -> None:
    nodes = [*INNER, node("Relu", "t", "other"), node("Concat", "t x", "y", axis=1)]
    assert_stays(MERGE, chain(nodes, ["n", 3], outputs=outputs), "")


SPLIT = node("Split", "x sizes", "a b c", axis=1)


@pytest.mark.parametrize("axis", [1, -1])
def test_drops(axis: int) -> None:
    nodes = [SPLIT, node("Concat", "a b c", "y", axis=axis)]
    assert_merges(DROP, chain(nodes, ["n", 6], ints(sizes=[1, 2, 3])), {})


def test_drops_though_others_use_a_part() -> None:
    nodes = [SPLIT, node("Concat", "a b c", "y", axis=1), node("Relu", "b", "other")]
    model = chain(nodes, ["n", 6], ints(sizes=[1, 2, 3]), outputs=["out", "other"])
    after = rewrite(model, DROP)
    assert after.fired == {DROP: 1}
    assert "Concat" not in after.ops
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(
    ("inputs", "axis", "reason"),
    [("a c b", 1, ""), ("a b", 1, ""), ("a b c c", 1, ""), ("a b c", 0, "it joins along another axis")],
)
def test_keeps_parts(inputs: str, axis: int, reason: str) -> None:
    nodes = [SPLIT, node("Concat", inputs, "y", axis=axis)]
    assert_stays(DROP, chain(nodes, ["n", 6], ints(sizes=[2, 2, 2])), reason)
