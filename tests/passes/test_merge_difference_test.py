"""merge_difference_test: equal where the difference is 0, and the infinities that forbid it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import Feeds, f32, node
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_difference_test"
NODES = node("Sub", "x b", "d"), node("Equal", "d zero", "e"), node("Where", "e b x", "y")


def compared(
    b: object, *, zero: object = 0, dtype: int = TensorProto.FLOAT, opset: int = 17, swapped: bool = False
) -> onnx.ModelProto:
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {"b": np.array(b, numpy_dtype), "zero": np.array(zero, numpy_dtype)}
    nodes = [node("Sub", "b x" if swapped else "x b", "d"), *NODES[1:]]
    return chain(nodes, ["n", 6], weights, dtype=dtype, opset=opset)


TINY = np.finfo(np.float32).smallest_subnormal
VALUES = [
    [0.0, -0.0, TINY, 2 * TINY, np.nan, np.inf],
    [1, np.nextafter(np.float32(1), 2), 3e38, -3e38, 0, -1],
]
FEEDS: Feeds = {"in": np.array(VALUES, np.float32)}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("zero", [0, -0.0, [0], [[0]]])
def test_fires(zero: object, swapped: bool) -> None:
    b = [0.0, 1.0, 2 * TINY, TINY, 0.0, -1.0]
    assert_merges(RULE, compared(b, zero=zero, swapped=swapped), {"Equal": 1, "Where": 1}, feeds=FEEDS)


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_fires_on_integers_that_wrap_around(dtype: int) -> None:
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    feeds = {"in": np.array([[info.min, info.max, 0, 1, -1, info.min]], info.dtype)}
    model = compared([info.max, info.min, 0, -1, -1, info.min], dtype=dtype)
    assert_merges(RULE, model, {"Equal": 1, "Where": 1}, feeds=feeds)


@pytest.mark.parametrize("b", [[np.inf] * 6, [0, 0, 0, 0, 0, np.nan]])
def test_keeps_constants_that_are_infinite(b: object) -> None:
    assert_stays(RULE, compared(b), "both may be infinite")


def test_keeps_two_unknowns() -> None:
    nodes = node("Sub", "x z", "d"), node("Equal", "d zero", "e"), node("Where", "e z x", "y")
    weights = {"zero": f32(0)}
    model = chain(nodes, ["n", 6], weights, others={"z": ["n", 6]})
    assert_stays(RULE, model, "both may be infinite")


@pytest.mark.parametrize("zero", [1, 1e-30, [[[0]]], [0, 0, 0, 0, 0, 0]])
def test_keeps_other_numbers(zero: object) -> None:
    assert_stays(RULE, compared([0.0] * 6, zero=zero), "it is not compared with 0")


def test_leaves_a_difference_that_others_use() -> None:
    weights = {"b": np.zeros(6, np.float32), "zero": f32(0)}
    model = chain(NODES, ["n", 6], weights, outputs=["out", "d"])
    assert_stays(RULE, model, "the result of Sub is a graph output")
