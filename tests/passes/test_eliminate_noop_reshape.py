"""eliminate_noop_reshape: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_reshape"
RESHAPE = helper.make_node("Reshape", ["x", "target"], ["y"])
ZERO_IS_ZERO = helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1)
EXPAND = helper.make_node("Expand", ["x", "target"], ["y"])
TILE = helper.make_node("Tile", ["x", "target"], ["y"])
SQUEEZE = helper.make_node("Squeeze", ["x"], ["y"])
Dims = Sequence[int | str]


def flatten(axis: int) -> NodeProto:
    return helper.make_node("Flatten", ["x"], ["y"], axis=axis)


def numbers(target: Sequence[int]) -> dict[str, np.ndarray]:
    return {"target": np.array(target, dtype=np.int64)}


@pytest.mark.parametrize(
    ("node", "dims", "target"),
    [
        pytest.param(RESHAPE, (2, 6), (3, 4), id="other dims"),
        pytest.param(RESHAPE, (2, 6), (12,), id="lower rank"),
        pytest.param(RESHAPE, (2, 6), (2, 6, 1), id="higher rank"),
        pytest.param(RESHAPE, ("a", "b", 4), (-1, 3, 4), id="two open dims"),
        pytest.param(RESHAPE, ("a", "b", 4), (0, 3, 4), id="a number where another dim is open"),
        pytest.param(RESHAPE, ("a", 4, 4), (-1, 4, 2), id="a number that differs"),
        pytest.param(RESHAPE, (0, "b"), (0, 5), id="nothing in it, so that any number fits"),
        pytest.param(ZERO_IS_ZERO, ("a", 0), (0, 5), id="0 is no copy with allowzero"),
        pytest.param(EXPAND, (1, 4), (3, 1), id="grows a dim"),
        pytest.param(TILE, (2, 4), (1, 2), id="repeats an axis"),
        pytest.param(EXPAND, (4,), (1, 4), id="adds an axis"),
        pytest.param(EXPAND, ("a", 4), (3, 1), id="a symbolic dim may be 1"),
        pytest.param(helper.make_node("Unsqueeze", ["x", "target"], ["y"]), (4,), (0,), id="unsqueezes"),
    ],
)
def test_keeps_what_may_change_the_shape(node: NodeProto, dims: Dims, target: Sequence[int]) -> None:
    assert_kept(RULE, [node], dims, "the shape may change", numbers(target))


@pytest.mark.parametrize(
    ("node", "dims"),
    [
        pytest.param(flatten(1), (2, 3, 4), id="flattens"),
        pytest.param(flatten(0), (2, 3), id="flattens all"),
        pytest.param(flatten(1), (3,), id="adds an axis"),
        pytest.param(SQUEEZE, (2, 1), id="squeezes"),
    ],
)
def test_keeps_what_may_change_the_shape_without_a_target(node: NodeProto, dims: Dims) -> None:
    assert_kept(RULE, [node], dims, "the shape may change")


def test_keeps_what_may_squeeze() -> None:
    count = helper.make_node("Size", ["y"], ["count"])
    assert_kept(RULE, [SQUEEZE, count], ("a", 4), "the shape may change", outputs=["count"])


@pytest.mark.parametrize("node", [RESHAPE, EXPAND])
def test_keeps_a_target_that_the_caller_may_override(node: NodeProto) -> None:
    assert_kept(RULE, [node], (2, 6), "", numbers([2, 6]), overridable=["target"])


def test_keeps_a_target_that_is_computed() -> None:
    shape = helper.make_node("Shape", ["x"], ["target"])
    assert_kept(RULE, [shape, RESHAPE], (2, 6), "")


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [RESHAPE], (2, 6), numbers([2, 6]))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "dims", "target"),
    [
        pytest.param(RESHAPE, (2, 6), (2, 6), id="equal"),
        pytest.param(RESHAPE, (2, 6), (-1, 6), id="-1 for a number"),
        pytest.param(RESHAPE, ("a", 6), (-1, 6), id="-1 for the batch"),
        pytest.param(RESHAPE, ("a", "b"), (0, -1), id="copy and -1"),
        pytest.param(RESHAPE, ("a", "b", 4), (0, 0, 4), id="copies"),
        pytest.param(RESHAPE, ("three", 6), (3, 6), id="a number for the batch"),
        pytest.param(RESHAPE, (0, 5), (0, 5), id="empty"),
        pytest.param(ZERO_IS_ZERO, (0, 5), (0, 5), id="empty, allowzero"),
        pytest.param(ZERO_IS_ZERO, ("a", 5), (-1, 5), id="allowzero without 0"),
        pytest.param(EXPAND, ("a", 4), (1, 4), id="expand to equal"),
        pytest.param(TILE, ("a", 4), (1, 1), id="tile once"),
        pytest.param(EXPAND, ("a", "b", 4), (1,), id="expand to 1"),
        pytest.param(EXPAND, ("a", "b"), (), id="expand to nothing"),
        pytest.param(helper.make_node("Unsqueeze", ["x", "target"], ["y"]), (3, "b"), (), id="unsqueeze"),
    ],
)
def test_fires(where: str, node: NodeProto, dims: Dims, target: Sequence[int]) -> None:
    sizes = [dim if isinstance(dim, int) else 3 for dim in dims]
    feeds = {"in": np.random.default_rng(0).normal(size=sizes).astype(np.float32)}
    assert_dropped(RULE, where, [node], dims, numbers(target), feeds=feeds)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "dims", "opset"),
    [
        pytest.param(flatten(1), ("a", "b"), 17, id="flatten at 1"),
        pytest.param(flatten(-1), ("a", "b"), 17, id="flatten at -1"),
        pytest.param(flatten(0), (1, "b"), 17, id="flatten at 0"),
        pytest.param(flatten(2), ("a", 1), 17, id="flatten at 2"),
        pytest.param(flatten(1), ("a", "b"), 9, id="flatten, opset 9"),
        pytest.param(SQUEEZE, (2, 3), 17, id="squeeze"),
        pytest.param(SQUEEZE, (2, 3), 11, id="squeeze, opset 11"),
    ],
)
def test_fires_without_a_target(where: str, node: NodeProto, dims: Dims, opset: int) -> None:
    assert_dropped(RULE, where, [node], dims, opset=opset)
