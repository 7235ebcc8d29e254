"""merge_casts: every pair of casts gives what it gave, then what it keeps out of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_casts"
T = TensorProto
TYPES = (T.BOOL, T.INT8, T.UINT8, T.INT16, T.INT32, T.UINT32, T.INT64, T.FLOAT16, T.FLOAT, T.DOUBLE)
FIRES: dict[int, int] = dict(zip(TYPES, (100, 71, 79, 53, 38, 38, 27, 12, 8, 4), strict=True))
CHANGES = "the first Cast may change values"


def values_of(dtype: int) -> np.ndarray:
    """The corners of a dtype."""
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    if numpy_dtype.kind == "f":
        info = np.finfo(numpy_dtype)
        numbers = [0.0, -0.0, 1.5, -2.5, 0.1, info.max, info.tiny, np.inf, -np.inf, np.nan]
        return np.array(numbers, numpy_dtype)
    if numpy_dtype.kind == "b":
        return np.array([False, True])
    limits = np.iinfo(numpy_dtype)
    return np.array([0, 1, 77, limits.min, limits.max, limits.max // 3, limits.min // 3], numpy_dtype)


@pytest.mark.parametrize("source", TYPES)
def test_every_pair_gives_what_it_gave(source: int) -> None:
    nodes, outputs = [], []
    for between, target in itertools.product(TYPES, TYPES):
        name = f"{between}_{target}"
        nodes += [node("Cast", "x", f"t{name}", to=between), node("Cast", f"t{name}", f"y{name}", to=target)]
        outputs.append(f"y{name}")
    feeds = {"x": values_of(source)}
    model = make_model(nodes, {"x": [feeds["x"].size]}, outputs, dtype=source)
    after = rewrite(model, RULE)
    assert after.fired[RULE] == FIRES[source]
    assert_same_answers(model, after.model, feeds, rtol=0)


@pytest.mark.parametrize(
    ("source", "between", "target"),
    [
        (T.FLOAT, T.FLOAT16, T.FLOAT),
        (T.FLOAT, T.INT32, T.FLOAT),
        (T.INT64, T.FLOAT, T.INT64),
        (T.INT32, T.FLOAT, T.DOUBLE),
        (T.INT64, T.INT32, T.INT64),
        (T.INT8, T.UINT8, T.INT16),
        (T.FLOAT, T.BOOL, T.FLOAT),
        (T.INT32, T.BOOL, T.INT32),
        (T.FLOAT, T.DOUBLE, T.INT8),
        (T.INT64, T.INT32, T.BOOL),
        (T.INT32, T.INT64, T.STRING),
    ],
)
def test_keeps(source: int, between: int, target: int) -> None:
    nodes = [node("Cast", "x", "t", to=between), node("Cast", "t", "y", to=target)]
    assert_stays(RULE, chain(nodes, [3], dtype=source), CHANGES)


@pytest.mark.parametrize(("target", "left"), [(T.FLOAT, {"Cast": 1}), (T.FLOAT16, {})])
def test_fires_with_bodies_of_half_precision(target: int, left: dict[str, int]) -> None:
    nodes = [node("Cast", "x", "t", to=T.DOUBLE), node("Cast", "t", "y", to=target)]
    model = chain(nodes, [3], dtype=T.FLOAT16)
    assert_merges(RULE, model, {"Cast": 1})
    assert {op: n for op, n in rewrite(model).ops.items() if op == "Cast"} == left


def test_keeps_what_others_use() -> None:
    nodes = [node("Cast", "x", "t", to=T.FLOAT), node("Cast", "t", "y", to=T.DOUBLE)]
    model = chain(nodes, [3], dtype=T.FLOAT16, outputs=["out", "t"])
    assert_stays(RULE, model, "the result of Cast has other users")
