"""merge_slices: what it keeps out of and why, then what fires."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "merge_slices"
BIG = 2**63 - 1
Bounds = tuple[Sequence[int], ...]


def pair(first: Bounds, second: Bounds, dims: Dims, *, outputs: Sequence[str] = ("out",)) -> onnx.ModelProto:
    """Two Slices by (starts, ends, axes, steps)."""
    weights = ints(**{f"a{i}": each for i, each in enumerate(first)})
    weights |= ints(**{f"b{i}": each for i, each in enumerate(second)})
    nodes = [
        node("Slice", " ".join(["x", *(f"a{i}" for i in range(len(first)))]), "t"),
        node("Slice", " ".join(["t", *(f"b{i}" for i in range(len(second)))]), "y"),
    ]
    return chain(nodes, dims, weights, outputs=outputs)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(([1], [4], [2]), ([0], [2], [1]), id="different axes"),
        pytest.param(([1], [4]), ([-1], [-BIG], [-1], [-1]), id="no axes, and backwards"),
        pytest.param(([1], [BIG], [0]), ([2], [BIG], [0]), id="starts add up"),
        pytest.param(([1], [6], [0]), ([2], [4], [0]), id="within"),
        pytest.param(([1], [3], [0]), ([0], [5], [0]), id="the first ends earlier"),
        pytest.param(([1], [-2], [0]), ([1], [BIG], [0]), id="the first counts its end from behind"),
        pytest.param(([1], [BIG], [0]), ([1], [-2], [0]), id="the second counts its end from behind"),
        pytest.param(([1], [BIG], [0], [2]), ([1], [BIG], [0], [3]), id="steps multiply"),
        pytest.param(([1, 0], [9, 3], [0, 1]), ([1, 1], [9, 9], [1, 2]), id="several axes"),
        pytest.param(
            ([2**62], [BIG], [0]), ([2**62], [BIG], [0]), id="starts add up to more than int64 holds"
        ),
        pytest.param(([0], [BIG], [0], [2**62]), ([0], [BIG], [0], [2**62]), id="so do steps"),
    ],
)
def test_fires_on_symbolic_dims(first: Bounds, second: Bounds) -> None:
    model = pair(first, second, ["n", 5, 6])
    for size in (1, 2, 5, 9):
        feeds = {"in": np.random.default_rng(size).normal(size=(size, 5, 6)).astype(np.float32)}
        assert_merges(RULE, model, {"Slice": 1}, feeds=feeds)


def test_every_pair_of_cuts_of_one_axis() -> None:
    cuts = [(0, 3, 1), (2, BIG, 1), (-3, -1, 1), (1, 7, 2), (-1, -BIG, -1), (5, 1, -2), (3, 3, 1)]
    cuts += [(-99, -BIG, -1), (-99, -99, -2), (-99, 2, 1), (BIG, -BIG, -BIG)]
    pairs = list(itertools.product(cuts, cuts))
    nodes, weights = [], ints(axis=[0])
    for index, cut in enumerate(cuts):
        weights |= ints(**{f"{name}{index}": [bound] for name, bound in zip("abc", cut, strict=True)})
    for i, j in itertools.product(range(len(cuts)), repeat=2):
        nodes.append(node("Slice", f"x a{i} b{i} axis c{i}", f"t{i}{j}"))
        nodes.append(node("Slice", f"t{i}{j} a{j} b{j} axis c{j}", f"y{i}{j}"))
    outputs = [each.output[0] for each in nodes[1::2]]
    model = make_model(nodes, {"x": [7, 2]}, outputs, weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: len(pairs)}
    assert after.ops == {"Slice": len(pairs)}
    assert_same_answers(model, after.model)


def test_fires_on_attributes() -> None:
    nodes = [
        node("Slice", "x", "t", starts=[1], ends=[4], axes=[1]),
        node("Slice", "t", "y", starts=[0, 1], ends=[2, 9]),
    ]
    assert_merges(RULE, chain(nodes, ["n", 5], opset=9), {"Slice": 1})


def test_fires_on_both_users_of_a_slice() -> None:
    nodes = [
        node("Slice", "x zero big a two", "t"),
        node("Slice", "t zero big b two", "p"),
        node("Slice", "t one big b two", "q"),
        node("Concat", "p q", "y", axis=1),
    ]
    weights = ints(zero=[0], one=[1], two=[2], big=[BIG], a=[0], b=[1])
    assert_merges(RULE, chain(nodes, ["n", 6], weights), {"Slice": 2, "Concat": 1}, times=2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(([-3], [BIG], [0]), ([0], [2], [0]), id="a start from behind"),
        pytest.param(([0], [4], [0]), ([-2], [BIG], [0]), id="another"),
        pytest.param(([0], [4], [0]), ([0], [-1], [0]), id="an end from behind of an end"),
        pytest.param(([0], [BIG], [0]), ([-1], [-BIG], [0], [-1]), id="backwards"),
        pytest.param(([0], [BIG], [0], [2]), ([0], [-1], [0]), id="an end from behind of steps"),
    ],
)
def test_keeps(first: Bounds, second: Bounds) -> None:
    assert_stays(RULE, pair(first, second, ["n", 5]), "the bounds do not combine")


@pytest.mark.parametrize("user", ["Neg", None], ids=["another operator", "a graph output"])
def test_keeps_a_first_slice_that_stays(user: str | None) -> None:
    nodes = [node("Slice", "x one big two", "t"), node("Slice", "t zero three two", "y")]
    nodes += [node(user, "t", "other")] if user else []
    weights = ints(zero=[0], one=[1], two=[1], three=[3], big=[BIG])
    model = chain(nodes, ["n", 6], weights, outputs=["out", "other" if user else "t"])
    assert_stays(RULE, model, "others use the first result")


def test_keeps_bounds_that_the_caller_may_override() -> None:
    nodes = [node("Slice", "x s e", "t"), node("Slice", "t s f", "y")]
    model = chain(nodes, ["n", 5], ints(s=[0], e=[3], f=[2]), overridable=["f"])
    assert_stays(RULE, model, "")
