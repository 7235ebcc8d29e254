"""eliminate_cast_round_trip: which types hold which."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept

RULE = "eliminate_cast_round_trip"
BOOL, F16, BF16, F32, F64 = (
    TensorProto.BOOL,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
)
I8, U8, I16, I32, I64 = (
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
)
EXACT = [
    (F16, F32),
    (F16, F64),
    (F32, F64),
    (I32, I64),
    (I32, F64),
    (I16, F32),
    (U8, I16),
    (I8, F16),
    (BOOL, I32),
]
ROUNDED = [
    (F32, F16),
    (F64, F32),
    (F32, BF16),
    (F16, BF16),
    (I64, I32),
    (I32, F32),
    (I64, F64),
    (I16, F16),
    (I8, U8),
]


def casts(*types: int) -> list[NodeProto]:
    names = ["x", *(f"v{index}" for index in range(1, len(types))), "y"]
    return [helper.make_node("Cast", [names[i]], [names[i + 1]], to=to) for i, to in enumerate(types)]


def extremes(dtype: int) -> np.ndarray:
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(dtype))
    if kind.kind == "f":
        limits = np.finfo(kind)
        values = [
            limits.max,
            limits.smallest_subnormal,
            -limits.tiny,
            -0.0,
            np.inf,
            np.nan,
            1 + limits.eps,
            3,
        ]
        return np.array([values], kind)
    if kind.kind == "b":
        return np.array([[True, False] * 4])
    return np.array([[np.iinfo(kind).min, np.iinfo(kind).max, 0, 1, 2, 3, 4, np.iinfo(kind).max - 1]], kind)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("source", "between"), EXACT)
def test_fires(where: str, source: int, between: int) -> None:
    feeds = {"in": extremes(source)}
    assert_dropped(RULE, where, casts(between, source), (1, 8), dtype=source, feeds=feeds)


@pytest.mark.parametrize(("source", "between"), ROUNDED)
def test_keeps_what_rounds(source: int, between: int) -> None:
    assert_kept(RULE, casts(between, source), (1, 8), "the first Cast rounds", dtype=source)


def test_keeps_what_ends_elsewhere() -> None:
    assert_kept(RULE, casts(F32, F64), (1, 8), "", dtype=F16)
