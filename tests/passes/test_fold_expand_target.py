"""fold_expand_target: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_expand_target"


def model_of(*pieces: str, dims: tuple[int | str, ...] = ("a", 1, "b", 3)) -> onnx.ModelProto:
    """Expand x to pieces: `a`, `b` its dims, or numbers."""
    numbers = {piece: np.array([int(piece)]) for piece in pieces if piece.isdigit()}
    nodes = [
        node("Shape", "x", "a", end=1),
        node("Shape", "x", "b", start=2, end=3),
        node("Concat", " ".join(pieces), "t", axis=0),
        node("Expand", "x t", "y"),
    ]
    return make_model(nodes, {"x": dims}, ["y"], numbers)


KEPT = {
    "a dim where x has 1": ("a", "b", "b", "3"),
    "another dim of x": ("b", "1", "b", "3"),
    "a new axis": ("a", "a", "1", "b", "3"),
}
FIRED = {
    "a number where x has 1": (("a", "8", "b", "3"), [1, 8, 1, 1]),
    "a new axis": (("4", "a", "2", "1", "1"), [4, 1, 2, 1, 1]),
    "its own dims": (("a", "1", "b", "1"), [1, 1, 1, 1]),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model = model_of(*KEPT[case])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"a dim of the target is unknown": 1}}
    assert_same_answers(model, after.model, random_feeds(model, a=2, b=2))


@pytest.mark.parametrize("case", FIRED)
def test_fires(case: str) -> None:
    pieces, target = FIRED[case]
    model = model_of(*pieces)
    after = rewrite(model, RULE, "remove_dead_nodes", "remove_unused_initializers")
    assert after.fired[RULE] == 1
    assert after.ops == {"Expand": 1}
    (constant,) = after.model.graph.initializer
    assert numpy_helper.to_array(constant).tolist() == target
    for a, b in ((2, 5), (1, 1), (0, 3)):
        assert_same_answers(model, after.model, random_feeds(model, a=a, b=b) if a else _empty(b))


def test_a_known_dim_of_x_can_only_be_kept() -> None:
    nodes = [node("Shape", "z", "t"), node("Expand", "x t", "y")]
    model = make_model(nodes, {"x": [4, 3], "z": ["n", "m"]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    for shape in ((4, 3), (1, 3), (1, 1)):
        feeds = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "z": np.ones(shape, np.float32)}
        assert_same_answers(model, after.model, feeds)


def _empty(b: int) -> dict[str, np.ndarray]:
    return {"x": np.zeros((0, 1, b, 3), np.float32)}
