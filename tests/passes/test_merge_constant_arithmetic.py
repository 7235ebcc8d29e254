"""merge_constant_arithmetic: what it keeps out of and why, then what fires."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import f32, node
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_constant_arithmetic"
Step = tuple[str, bool, npt.ArrayLike]
"""Operator, whether the constant comes first, and the constant."""


def steps(each: Sequence[Step], *, dtype: int = TensorProto.FLOAT, opset: int = 17) -> onnx.ModelProto:
    nodes, weights, source = [], {}, "x"
    for index, (op, first, constant) in enumerate(each):
        target = "y" if index == len(each) - 1 else f"t{index}"
        nodes.append(node(op, f"c{index} {source}" if first else f"{source} c{index}", target))
        weights[f"c{index}"] = np.asarray(constant, helper.tensor_dtype_to_np_dtype(dtype))
        source = target
    return chain(nodes, ["n", 3, 4], weights, dtype=dtype, opset=opset)


SHIFTS: Sequence[Step] = (("Add", False, 1.5), ("Add", True, -0.7), ("Sub", False, 2.5), ("Sub", True, 0.3))
SCALES: Sequence[Step] = (("Mul", False, 1.5), ("Mul", True, -0.7), ("Div", False, 2.5))


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_two_of_a_kind(dtype: int) -> None:
    for kind in (SHIFTS, SCALES):
        for pair in itertools.product(kind, kind):
            assert_merges_into_one(steps(pair, dtype=dtype), pair)


def assert_merges_into_one(model: onnx.ModelProto, pair: Sequence[Step]) -> None:
    negated = sum(op == "Sub" and first for op, first, _ in pair) == 1
    left = "Mul" if pair[0] in SCALES else "Sub" if negated else "Add"
    assert_merges(RULE, model, {left: 1})


@pytest.mark.parametrize(
    "each",
    [
        [SCALES[0], SHIFTS[0], SCALES[2]],
        [SHIFTS[2], SCALES[1], SHIFTS[0]],
        [SHIFTS[3], SCALES[2], SHIFTS[3]],
        [SCALES[2], SHIFTS[1], SCALES[0]],
    ],
)
def test_three(each: Sequence[Step]) -> None:
    assert_merges(RULE, steps(each), {"Mul": 1, "Add": 1})


def test_half_precision() -> None:
    model = steps([("Div", False, 6.0), ("Mul", False, 1.75)], dtype=TensorProto.FLOAT16)
    assert_merges(RULE, model, {"Mul": 1}, rtol=2e-3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1.0, 2, 3, 4], 2.0),
        (2.0, [[1.0], [2], [3]]),
        ([1.0, 2, 3, 4], [[[2.0]]]),
        ([[1.0, 2, 3, 4]], [4.0, 3, 2, 1]),
    ],
)
def test_constants_that_broadcast(first: npt.ArrayLike, second: npt.ArrayLike) -> None:
    assert_merges(RULE, steps([("Mul", False, first), ("Mul", True, second)]), {"Mul": 1})


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.UINT8, TensorProto.INT64])
def test_integers_wrap_around(dtype: int) -> None:
    high = int(np.iinfo(helper.tensor_dtype_to_np_dtype(dtype)).max)
    x = {"in": np.arange(24).reshape(2, 3, 4).astype(helper.tensor_dtype_to_np_dtype(dtype))}
    shifts = steps([("Sub", True, high), ("Add", False, high), ("Sub", False, 3)], dtype=dtype)
    assert_merges(RULE, shifts, {"Sub": 1}, feeds=x, times=2)
    if dtype != TensorProto.UINT8:
        scales = steps([("Mul", False, high), ("Mul", False, high - 2)], dtype=dtype)
        assert_merges(RULE, scales, {"Mul": 1}, feeds=x)


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        pytest.param([SCALES[0], SHIFTS[0]], "", id="a scale and a shift take two"),
        pytest.param([("Div", True, 2.0), SCALES[0]], "", id="a constant divided by x"),
        pytest.param(
            [("Mul", False, [1.0, 2, 3, 4]), ("Mul", False, [[1.0], [2], [3]])],
            "the joint constant would be larger",
            id="grows",
        ),
        pytest.param(
            [("Add", False, 12582912.0), ("Sub", False, 12582912.0)],
            "large terms cancel",
            id="a sum that rounds",
        ),
        pytest.param(
            [("Mul", False, 3e38), ("Mul", False, 3e38)],
            "the folded weights do not fit float32",
            id="overflows",
        ),
        pytest.param(
            [("Div", False, 0.0), ("Mul", False, 2.0)], "the folded weights do not fit float32", id="by zero"
        ),
        pytest.param(
            [("Mul", False, 1e-30), ("Mul", False, 1e-15)],
            "the folded weights do not fit float32",
            id="vanishes",
        ),
    ],
)
def test_keeps(each: Sequence[Step], reason: str) -> None:
    assert_stays(RULE, steps(each), reason)


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        ([("Div", False, 3), ("Div", False, 2)], "integers do not regroup"),
        ([("Mul", False, 3), ("Div", False, 2)], "integers do not regroup"),
        ([("Add", False, 3), ("Mul", False, 2), ("Add", False, 1)], ""),
    ],
)
def test_keeps_integers(each: Sequence[Step], reason: str) -> None:
    assert_stays(RULE, steps(each, dtype=TensorProto.INT32), reason)


def test_keeps_what_others_use() -> None:
    model = chain(
        [node("Mul", "x c", "t"), node("Mul", "t c", "y")], ["n"], {"c": f32(2)}, outputs=["out", "t"]
    )
    assert_stays(RULE, model, "the result of Mul is a graph output")


def test_keeps_a_constant_that_the_caller_may_override() -> None:
    model = chain(
        [node("Mul", "x c", "t"), node("Mul", "t d", "y")],
        ["n"],
        {"c": f32(2), "d": f32(3)},
        overridable=["d"],
    )
    assert_stays(RULE, model, "")
