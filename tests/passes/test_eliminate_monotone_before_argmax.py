"""eliminate_monotone_before_argmax: which operators keep the index, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite

RULE = "eliminate_monotone_before_argmax"
DIMS = (2, 6)
X = np.array([[3, -1, 3, -1, 0, 2], [-0.0, 0.0, -5, -5, 4, 4]])


def run(
    before: NodeProto, after: str, dtype: int, data: np.ndarray, **attributes: Any
) -> tuple[dict[str, int], dict[str, int]]:
    last = helper.make_node(after, ["v"], ["y"], **attributes)
    model = make_model([before, last], {"x": DIMS}, ["y"], {"two": np.array(2, np.float32)}, dtype=dtype)
    result = rewrite(model, RULE)
    assert_same_answers(model, result.model, {"x": data})
    return result.fired, result.ops


@pytest.mark.parametrize(
    "attributes", [{}, {"axis": 1}, {"axis": -1, "keepdims": 0}, {"axis": 1, "select_last_index": 1}]
)
@pytest.mark.parametrize(("op", "other"), [("ArgMax", "ArgMin"), ("ArgMin", "ArgMax")])
def test_neg_gives_the_opposite(op: str, other: str, attributes: dict[str, int]) -> None:
    negated = helper.make_node("Neg", ["x"], ["v"])
    fired, ops = run(negated, op, TensorProto.FLOAT, X.astype(np.float32), **attributes)
    assert (fired, ops) == ({RULE: 1}, {other: 1})


@pytest.mark.parametrize(
    ("source", "target", "exact"),
    [
        (TensorProto.FLOAT, TensorProto.DOUBLE, True),
        (TensorProto.INT32, TensorProto.DOUBLE, True),
        (TensorProto.INT32, TensorProto.FLOAT, False),
        (TensorProto.DOUBLE, TensorProto.FLOAT, False),
        (TensorProto.INT16, TensorProto.FLOAT, False),
    ],
)
def test_cast(source: int, target: int, exact: bool) -> None:
    cast = helper.make_node("Cast", ["x"], ["v"], to=target)
    data = X.astype(helper.tensor_dtype_to_np_dtype(source))
    fired, ops = run(cast, "ArgMax", source, data, axis=1)
    assert (fired, ops) == (({RULE: 1}, {"ArgMax": 1}) if exact else ({}, {"Cast": 1, "ArgMax": 1}))


def test_keeps_negated_integers() -> None:
    """The least integer is its own opposite."""
    data = np.full(DIMS, np.iinfo(np.int32).min, np.int32)
    data[:, 3] = 5
    fired, _ = run(helper.make_node("Neg", ["x"], ["v"]), "ArgMax", TensorProto.INT32, data, axis=1)
    assert fired == {}


# Each operator with numbers that differ, though its results do not: the second of them is the greater one.
TIES: dict[str, list[float]] = {
    "Softmax": [1e-9, 2e-9],
    "Sigmoid": [30, 31],
    "Exp": [1e-9, 2e-9],
    "Relu": [-2, -1],
    "Tanh": [20, 21],
}


@pytest.mark.parametrize("op", TIES)
def test_keeps_what_makes_ties(op: str) -> None:
    data = np.full(DIMS, -50, np.float32)
    data[:, 1:3] = TIES[op]
    before = helper.make_node(op, ["x"], ["v"])
    fired, _ = run(before, "ArgMax", TensorProto.FLOAT, data, axis=1)
    assert fired == {}
    alone = make_model([helper.make_node("ArgMax", ["x"], ["y"], axis=1)], {"x": DIMS}, ["y"])
    chained = make_model([before, helper.make_node("ArgMax", ["v"], ["y"], axis=1)], {"x": DIMS}, ["y"])
    with pytest.raises(AssertionError):
        assert_same_answers(chained, alone, {"x": data})
