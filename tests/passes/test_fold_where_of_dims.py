"""fold_where_of_dims: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_where_of_dims"
KEEP = "it does not choose between constants alone"


def model_of(condition: list[bool], pieces: str, ones: list[int], *, shared: bool = False) -> onnx.ModelProto:
    """Where on a Concat of `b`, `bn` (dims of x) and constants, and Neg."""
    nodes = [
        node("Shape", "x", "b", end=1), node("Shape", "x", "bn"), node("Concat", pieces, "t", axis=0),
        node("Where", "condition ones t", "w"), node("Neg", "w", "y"), node("Neg", "t", "z"),
    ]  # fmt: skip
    constants = {"condition": np.array(condition), "ones": np.array(ones)}
    constants |= {name: np.array(value) for name, value in {"minus": [-1], "two": [2, -1]}.items()
                  if name in pieces.split()}  # fmt: skip
    nodes = nodes if shared else nodes[:-1]
    return make_model(nodes, {"x": ["b", "n"]}, ["y", "z"] if shared else ["y"], constants)


@pytest.mark.parametrize(
    "model",
    [
        model_of([True, False], "b minus", [7, 7]),
        model_of([False, True, False, True], "bn two", [7, 7, 7, 7]),
    ],
    ids=["replaces a dim", "replaces a part of a piece of dims"],
)
def test_replaces_dims_too_where_whole_pieces_go(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    if len(model.graph.node[2].input) == 2 and "bn" in model.graph.node[2].input:
        assert after.declined == {RULE: {KEEP: 1}}
    else:
        assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


@pytest.mark.parametrize(
    ("condition", "pieces"),
    [
        ([False, True], "b minus"),
        ([False, False, True, True], "bn two"),
        ([False, True, True, False], "b two minus"),
    ],
)
def test_fires(condition: list[bool], pieces: str) -> None:
    model = model_of(condition, pieces, [1] * len(condition))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Shape": 2, "Concat": 1, "Neg": 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


def test_keeps_a_concat_that_others_read() -> None:
    model = model_of([False, True], "b minus", [1, 1], shared=True)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the result of Concat has other users": 1}}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))
