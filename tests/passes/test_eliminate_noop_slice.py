"""eliminate_noop_slice: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_slice"
DIMS = ("batch", 4)
NAMES = ("starts", "ends", "axes", "steps")
SLICE = helper.make_node("Slice", ["x", *NAMES], ["y"])
FOREVER = 2**63 - 1
Bounds = Sequence[Sequence[int]]


def bounds(*each: Sequence[int]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in zip(NAMES, each, strict=False)}


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(([1], [4], [1], [1]), id="starts late"),
        pytest.param(([0], [3], [1], [1]), id="ends early"),
        pytest.param(([0], [-1], [1], [1]), id="ends before the last"),
        pytest.param(([0], [FOREVER], [1], [2]), id="every other"),
        pytest.param(([-1], [-FOREVER], [1], [-1]), id="backwards"),
        pytest.param(([0], [1000], [0], [1]), id="a large end on a symbolic dim"),
        pytest.param(([-4], [FOREVER], [0], [1]), id="from before the end of a symbolic dim"),
        pytest.param(([0, 0], [FOREVER, 2], [0, 1], [1, 1]), id="a part of the second axis"),
    ],
)
def test_keeps_what_takes_a_part(each: Bounds) -> None:
    assert_kept(RULE, [SLICE], DIMS, "it takes a part", bounds(*each))


def test_keeps_what_takes_a_part_by_attributes() -> None:
    node = helper.make_node("Slice", ["x"], ["y"], starts=[1], ends=[FOREVER])
    assert_kept(RULE, [node], DIMS, "it takes a part", opset=9)


@pytest.mark.parametrize("name", NAMES)
def test_keeps_bounds_that_the_caller_may_override(name: str) -> None:
    assert_kept(RULE, [SLICE], DIMS, "", bounds([0], [4], [1], [1]), overridable=[name])


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [SLICE], DIMS, bounds([0], [4], [1], [1]))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    "each",
    [
        pytest.param(([0], [4], [1], [1]), id="to its size"),
        pytest.param(([0], [FOREVER], [-1], [1]), id="to INT64_MAX"),
        pytest.param(([0], [2**31 - 1], [0], [1]), id="to INT32_MAX"),
        pytest.param(([-4], [5], [1], [1]), id="from minus its size"),
        pytest.param(([0, 0], [FOREVER, 4], [0, 1], [1, 1]), id="two axes"),
        pytest.param(([0, 0], [FOREVER, 4], [0, 1]), id="no steps"),
        pytest.param(([0, 0], [FOREVER, 4]), id="no axes"),
    ],
)
def test_fires(where: str, each: Bounds) -> None:
    node = helper.make_node("Slice", ["x", *NAMES[: len(each)]], ["y"])
    assert_dropped(RULE, where, [node], DIMS, bounds(*each))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Slice", ["x"], ["y"], starts=[0, 0], ends=[FOREVER, 4]),
        helper.make_node("Slice", ["x"], ["y"], starts=[0], ends=[4], axes=[1]),
    ],
)
def test_fires_on_attributes(where: str, node: NodeProto) -> None:
    assert_dropped(RULE, where, [node], DIMS, opset=9)
