"""merge_slices_into_split: what it keeps out of, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints
from tests.passes.folds import flags, in_branches

RULE = "merge_slices_into_split"
BIG = 2**63 - 1
Cut = tuple[int, int]


def parts(cuts: Sequence[Cut], dims: Dims = ("n", 6), *, axis: int = 1, opset: int = 17) -> onnx.ModelProto:
    """Slices of x, joined in reverse order."""
    nodes, weights = [], ints(axis=[axis])
    for index, (start, end) in enumerate(cuts):
        if opset < 10:
            nodes.append(node("Slice", "x", f"p{index}", starts=[start], ends=[end], axes=[axis]))
        else:
            weights |= ints(**{f"s{index}": [start], f"e{index}": [end]})
            nodes.append(node("Slice", f"x s{index} e{index} axis", f"p{index}"))
    joined = " ".join(f"p{index}" for index in reversed(range(len(cuts))))
    nodes.append(node("Concat", joined, "y", axis=axis))
    return chain(nodes, dims, weights if opset >= 10 else {}, opset=opset)


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
@pytest.mark.parametrize(
    "cuts", [[(0, 3), (3, BIG)], [(4, 6), (0, 4)], [(0, 1), (1, 3), (-3, BIG)], [(0, -2), (-2, 100)]]
)
def test_fires(cuts: Sequence[Cut], opset: int) -> None:
    assert_merges(RULE, parts(cuts, opset=opset), {"Split": 1, "Concat": 1})


def test_fires_on_an_axis_counted_from_behind() -> None:
    assert_merges(RULE, parts([(0, 2), (2, 6)], axis=-1), {"Split": 1, "Concat": 1})


def test_fires_on_graph_outputs() -> None:
    nodes = [node("Slice", "x a b one", "p"), node("Slice", "x b c one", "q"), node("Relu", "x", "y")]
    weights = ints(a=[0], b=[2], c=[6], one=[1])
    model = chain(nodes, ["n", 6], weights, outputs=["out", "q", "p"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert [output.name for output in after.model.graph.output] == ["out", "q", "p"]
    assert_same_answers(model, after.model)


def test_fires_on_parts_of_parts() -> None:
    nodes = [
        node("Slice", "x zero two one", "p"),
        node("Slice", "x two six one", "q"),
        node("Slice", "q zero two one", "r"),
        node("Slice", "q two six one", "s"),
        node("Concat", "q s p r", "y", axis=1),
    ]
    model = chain(nodes, ["n", 6], ints(zero=[0], one=[1], two=[2], six=[6]))
    assert_merges(RULE, model, {"Split": 2, "Concat": 1}, times=2)


def with_gathers(indices: Sequence[Sequence[int]], *, start: int = 3) -> onnx.ModelProto:
    """Slice([start:]) of x, and Gathers of other indices."""
    nodes, weights = [node("Slice", "x start big one", "p")], ints(start=[start], big=[BIG], one=[1])
    for index, each in enumerate(indices):
        weights |= ints(**{f"i{index}": each})
        nodes.append(node("Gather", f"x i{index}", f"q{index}", axis=-1))
    joined = " ".join(["p", *(f"q{index}" for index in range(len(indices)))])
    nodes.append(node("Concat", joined, "y", axis=1))
    return chain(nodes, ["n", 6], weights)


@pytest.mark.parametrize("indices", [[[0, 1, 2]], [[1, 2], [0]], [[-4], [-6, -5]]])
def test_fires_on_gathers_of_neighbours(indices: Sequence[Sequence[int]]) -> None:
    assert_merges(RULE, with_gathers(indices), {"Split": 1, "Concat": 1})


@pytest.mark.parametrize(
    "indices",
    [
        pytest.param([[2, 1, 0]], id="backwards"),
        pytest.param([[0, 2], [1]], id="no neighbours"),
        pytest.param([[0, 1, 1, 2]], id="one twice"),
    ],
)
def test_keeps_other_gathers(indices: Sequence[Sequence[int]]) -> None:
    assert_stays(RULE, with_gathers(indices), "")


def test_keeps_a_gather_that_drops_the_axis() -> None:
    nodes = [
        node("Slice", "x one big one", "p"),
        node("Gather", "x zero", "q", axis=1),
        node("Unsqueeze", "q one", "r"),
        node("Concat", "p r", "y", axis=1),
    ]
    weights = ints(one=[1], big=[BIG]) | {"zero": np.array(0)}
    assert_stays(RULE, chain(nodes, ["n", 6], weights), "")


def test_fires_in_bodies() -> None:
    inner = parts([(0, 3), (3, BIG)])
    inner.graph.input[0].name = "x"
    del inner.graph.node[0], inner.graph.node[-1]
    inner.graph.output[0].name = "y"
    model = in_branches(inner)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in flags(model):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize(
    ("cuts", "dims"),
    [
        pytest.param([(0, 3), (4, 6)], ["n", 6], id="a gap"),
        pytest.param([(0, 3), (2, 6)], ["n", 6], id="an overlap"),
        pytest.param([(0, 3), (3, 5)], ["n", 6], id="not to the end"),
        pytest.param([(1, 3), (3, 6)], ["n", 6], id="not from the start"),
        pytest.param([(0, 3), (3, 3), (3, 6)], ["n", 6], id="an empty part"),
        pytest.param([(0, 3), (3, BIG)], [3, "m"], id="the size is unknown"),
    ],
)
def test_keeps(cuts: Sequence[Cut], dims: Dims) -> None:
    assert_stays(RULE, parts(cuts, dims), "")


def test_keeps_steps() -> None:
    nodes = [
        node("Slice", "x a c one two", "p"),
        node("Slice", "x b c one two", "q"),
        node("Concat", "p q", "y", axis=1),
    ]
    assert_stays(RULE, chain(nodes, ["n", 6], ints(a=[0], b=[3], c=[6], one=[1], two=[2])), "")


def test_keeps_several_axes() -> None:
    weights = ints(a=[0, 0], b=[2, 6], c=[2, 0], d=[4, 6], axes=[0, 1])
    nodes = [node("Slice", "x a b axes", "p"), node("Slice", "x c d axes", "q"), node("Add", "p q", "y")]
    assert_stays(RULE, chain(nodes, [4, 6], weights), "")


def test_keeps_gathers_of_texts() -> None:
    # onnxruntime's Gather copies but the first text of each row, and Split copies all.
    nodes = [node("Gather", "x first", "p"), node("Gather", "x rest", "q")]
    weights = ints(first=[0], rest=[1, 2])
    model = make_model(nodes, {"x": [3, 2]}, ["p", "q"], weights, dtype=TensorProto.STRING)
    assert rewrite(model, RULE).fired == {}
