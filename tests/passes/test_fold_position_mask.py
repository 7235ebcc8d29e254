"""fold_position_mask: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, rewrite

RULE = "fold_position_mask"
CONSTANTS = {
    "i0": np.array(0), "i1": np.array(1), "bottom": np.array([0, 1, 3]), "right": np.array([0, 1, 2]),
    "zero": f32(0), "low": f32(-1e4), "first": np.array([0]), "third": np.array(2),
}  # fmt: skip
POSITIONS = (
    node("Shape", "x", "s"), node("Gather", "s third", "n"), node("Range", "i0 n i1", "r"),
    node("Unsqueeze", "r bottom", "rows"), node("Unsqueeze", "r right", "columns"),
)  # fmt: skip
GATHERED = (
    node("Expand", "rows s", "wide"), node("Expand", "columns s", "high"),
    node("LessOrEqual", "high wide", "mask"),
)  # fmt: skip


def model_of(*nodes: onnx.NodeProto, scores: str = "x", opset: int = 17) -> onnx.ModelProto:
    """Nodes from x [b, h, n, n] and positions along its last two axes to `mask`, added to the scores."""
    graph = [*POSITIONS, *nodes, node("Where", "mask zero low", "w"), node("Add", f"{scores} w", "y")]
    read = {name for each in graph for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in read}
    return make_model(graph, {"x": ["b", "h", "n", "n"]}, ["y"], constants, opset=opset)


KEPT = {
    "simple already": (
        model_of(node("LessOrEqual", "columns rows", "mask")),
        "the mask is as simple as it gets",
    ),
    "a mask of data": (model_of(node("Less", "x zero", "mask")), "the mask is as simple as it gets"),
    "always true, but for data": (
        model_of(node("Less", "x zero", "a"), node("Greater", "x low", "c"), node("And", "a c", "mask")),
        "the mask is as simple as it gets",
    ),
    "scores of another shape": (
        model_of(*GATHERED, node("ReduceMax", "x", "m", axes=[3]), scores="m"),
        "the mask gives the sum its shape",
    ),
}  # fmt: skip
FIRED = {
    "expanded positions": (model_of(*GATHERED), {"Expand"}),
    "the other way round": (
        model_of(*GATHERED[:2], node("Greater", "wide high", "mask")),
        {"Expand"},
    ),
    "and what is always true": (
        model_of(
            *GATHERED[:2], node("GreaterOrEqual", "rows i0", "all"), node("LessOrEqual", "high wide", "some"),
            node("And", "all some", "mask"),
        ),
        {"Expand", "And", "GreaterOrEqual"},
    ),
    "and data": (
        model_of(*GATHERED[:2], node("Less", "x zero", "a"), node("LessOrEqual", "high wide", "c"),
                 node("And", "a c", "mask")),
        {"Expand"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model, reason = KEPT[case]
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined[RULE]) == {reason}
    assert_same_answers(model, after.model, random_feeds(model, b=2, h=3, n=5))


@pytest.mark.parametrize("case", FIRED)
def test_fires(case: str) -> None:
    model, gone = FIRED[case]
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert not gone & set(after.ops)
    for sizes in ({"b": 2, "h": 3, "n": 5}, {"b": 1, "h": 1, "n": 1}):
        assert_same_answers(model, after.model, random_feeds(model, **sizes))


def test_an_empty_mask() -> None:
    model, _ = FIRED["and what is always true"]
    after = rewrite(model, RULE)
    assert_same_answers(model, after.model, {"x": np.zeros((2, 3, 0, 0), np.float32)})


def test_a_second_run_changes_nothing() -> None:
    model, _ = FIRED["and what is always true"]
    once = rewrite(model).model
    assert rewrite(once).fired == {}
