"""merge_squeezes: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import node
from tests.passes.chains import assert_merges, assert_stays, chain, ints

RULE = "merge_squeezes"
DIMS = ("n", 1, 4, 1, 5)


def pair(
    first: str, a: Sequence[int] | None, second: str, b: Sequence[int] | None, *, opset: int = 17
) -> onnx.ModelProto:
    """Two operators from x to y, with axes in the spelling of the opset."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    for op, axes, name, ends in ((first, a, "a", ("x", "t")), (second, b, "b", ("t", "y"))):
        if axes is None:
            nodes.append(node(op, ends[0], ends[1]))
        elif opset < 13:
            nodes.append(node(op, ends[0], ends[1], axes=axes))
        else:
            nodes.append(node(op, f"{ends[0]} {name}", ends[1]))
            weights |= ints(**{name: axes})
    return chain(nodes, DIMS, weights, opset=opset)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("first", "a", "second", "b", "left"),
    [
        ("Unsqueeze", [0], "Unsqueeze", [0], "Unsqueeze"),
        ("Unsqueeze", [1, 3], "Unsqueeze", [0, 2], "Unsqueeze"),
        ("Unsqueeze", [-1], "Unsqueeze", [-2, 1], "Unsqueeze"),
        ("Squeeze", [1], "Squeeze", [2], "Squeeze"),
        ("Squeeze", [3], "Squeeze", [-3], "Squeeze"),
        ("Squeeze", [1], "Unsqueeze", [1], ""),
        ("Squeeze", [1, -2], "Unsqueeze", [3, 1], ""),
        ("Unsqueeze", [2], "Squeeze", [2], ""),
        ("Unsqueeze", [2, 0], "Squeeze", [0], "Unsqueeze"),
        ("Unsqueeze", [0, 2, -1], "Squeeze", [2], "Unsqueeze"),
        ("Unsqueeze", [0], "Squeeze", [0, 2, 4], "Squeeze"),
        ("Unsqueeze", [2], "Squeeze", [1, 2, 4], "Squeeze"),
    ],
)
def test_fires(first: str, a: Sequence[int], second: str, b: Sequence[int], left: str, opset: int) -> None:
    assert_merges(RULE, pair(first, a, second, b, opset=opset), {left: 1} if left else {})


def test_fires_where_all_axes_of_size_one_go() -> None:
    model = chain([node("Squeeze", "x a", "t"), node("Squeeze", "t", "y")], [3, 1, 4, 1], ints(a=[1]))
    assert_merges(RULE, model, {"Squeeze": 1})


@pytest.mark.parametrize(
    ("first", "a", "second", "b"),
    [
        ("Squeeze", [1], "Unsqueeze", [2]),
        ("Unsqueeze", [0], "Squeeze", [2]),
        ("Squeeze", [1, 3], "Unsqueeze", [1]),
    ],
)
def test_keeps_what_takes_two(first: str, a: Sequence[int], second: str, b: Sequence[int]) -> None:
    assert_stays(RULE, pair(first, a, second, b), "the two are not one operator")


def test_keeps_axes_that_the_caller_may_override() -> None:
    nodes = [node("Unsqueeze", "x a", "t"), node("Unsqueeze", "t b", "u"), node("Size", "u", "y")]
    model = chain(nodes, DIMS, ints(a=[0], b=[1]), overridable=["a"])
    assert_stays(RULE, model, "the two are not one operator")


@pytest.mark.parametrize("other", [[node("Relu", "t", "other")], []])
def test_keeps_what_others_use_unless_the_pair_cancels(other: list[onnx.NodeProto]) -> None:
    outputs = ["out", "other" if other else "t"]
    nodes = [node("Unsqueeze", "x a", "t"), node("Unsqueeze", "t b", "y"), *other]
    model = chain(nodes, DIMS, ints(a=[0], b=[1]), outputs=outputs)
    assert_stays(RULE, model, "the result of Unsqueeze has other users")
    nodes[1] = node("Squeeze", "t a", "y")
    model = chain(nodes, DIMS, ints(a=[0]), outputs=outputs)
    assert_merges(RULE, model, {"Unsqueeze": 1} | ({"Relu": 1} if other else {}))
