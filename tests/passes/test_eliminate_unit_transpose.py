"""eliminate_unit_transpose: which Transposes are Reshapes, and which are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "eliminate_unit_transpose"
Dims = Sequence[int | str | None]

ELIMINATED: dict[str, tuple[Dims, list[int]]] = {
    "static": ([2, 1, 1, 3], [0, 3, 1, 2]),
    "an unknown dim stays": (["n", 1, 1, 3], [0, 3, 1, 2]),
    "an unknown dim moves": ([1, "n", 3], [1, 2, 0]),
    "several stay": (["n", 1, 3, "m"], [0, 2, 1, 3]),
    "only 1s": ([1, 1, 1], [2, 0, 1]),
}
KEPT: dict[str, tuple[Dims, list[int], str]] = {
    "axes move": ([2, 1, 3], [2, 1, 0], "it moves more than axes of size 1"),
    "a dim that may be 1": (["n", 3], [1, 0], "it moves more than axes of size 1"),
    "two unknown dims move": ([1, "n", "m"], [1, 2, 0], "the target would have several unknown dims"),
    "two empty dims move": ([1, 0, 0], [1, 2, 0], "the target would have several unknown dims"),
}


@pytest.mark.parametrize("case", ELIMINATED)
@pytest.mark.parametrize("opset", [7, 13, 21])
def test_becomes_a_reshape(case: str, opset: int) -> None:
    dims, perm = ELIMINATED[case]
    model = make_model([node("Transpose", "x", "y", perm=perm)], {"x": dims}, ["y"], opset=opset)
    after = rewrite(model, RULE)
    assert after.ops == {"Reshape": 1}
    for size in (0, 1, 4):
        assert_same_answers(model, after.model, random_feeds(model, n=size, m=2))


@pytest.mark.parametrize("dims", [[2, 1, 0], [0, 1, 3]], ids=["it moves", "it stays"])
def test_an_empty_dim(dims: list[int]) -> None:
    model = make_model([node("Transpose", "x", "y", perm=[0, 2, 1])], {"x": dims}, ["y"])
    after = rewrite(model, RULE)
    assert after.ops == {"Reshape": 1}
    assert_same_answers(model, after.model, {"x": np.zeros(dims, np.float32)})


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    dims, perm, reason = KEPT[case]
    after = rewrite(make_model([node("Transpose", "x", "y", perm=perm)], {"x": dims}, ["y"]), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def test_keeps_what_moves_nothing_for_another_rule() -> None:
    after = rewrite(make_model([node("Transpose", "x", "y", perm=[0, 1])], {"x": [2, 1]}, ["y"]), RULE)
    assert after.fired == {}
