"""fuse_where: what fires, and each precondition broken once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import node
from tests.passes.fusions import Spelling, assert_fuses, assert_stays

RULE = "fuse_where"
DIMS = ("batch", 4)
LIMIT = np.array(1, np.int64)
LEFT = {"Cast": 1, "Greater": 1, "Where": 1}
DTYPES = (TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)


def chosen(dtype: int) -> Spelling:
    """Other where x > 1, else x."""
    nodes = (
        node("Cast", "x", "wide", to=TensorProto.INT64),
        node("Greater", "wide limit", "c"),
        node("Cast", "c", "yes", to=dtype),
        node("Mul", "yes other", "a"),
        node("Not", "c", "n"),
        node("Cast", "n", "no", to=dtype),
        node("Mul", "x no", "b"),
        node("Add", "a b", "y"),
    )
    return Spelling(nodes, {"limit": LIMIT})


def model(dtype: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    spelling = chosen(dtype)
    return (replace(spelling, nodes=nodes) if nodes else spelling).model(DIMS, dtype=dtype)


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=helper.tensor_dtype_to_string)
def test_fires(dtype: int, commuted: bool) -> None:
    spelling = chosen(dtype).commuted() if commuted else chosen(dtype)
    assert_fuses(spelling.model(DIMS, dtype=dtype), RULE, leaves=LEFT)


def test_wraps_around_as_the_products_do() -> None:
    extremes = np.array([[np.iinfo(np.int32).min, np.iinfo(np.int32).max, 0, -1]], np.int32)
    feeds = {"x": extremes, "other": extremes[:, ::-1].copy()}
    assert_fuses(model(TensorProto.INT32), RULE, leaves=LEFT, feeds=feeds)


def test_keeps_the_broadcast_of_all_three() -> None:
    nodes = list(chosen(TensorProto.INT32).nodes)
    nodes[3] = node("Mul", "yes row", "a")
    row = np.arange(12, dtype=np.int32).reshape(3, 1, 4)
    spelling = Spelling(tuple(nodes), {"row": row, "limit": LIMIT})
    assert_fuses(spelling.model(DIMS, dtype=TensorProto.INT32), RULE, leaves=LEFT)


def test_keeps_out_of_floats() -> None:
    assert_stays(model(TensorProto.FLOAT), RULE, "not known to be integers")


def test_keeps_out_of_another_condition() -> None:
    nodes = list(chosen(TensorProto.INT32).nodes)
    nodes[4] = node("Not", "d", "n")
    nodes.insert(2, node("Less", "wide limit", "d"))
    assert_stays(model(TensorProto.INT32, *nodes), RULE, "")


def test_keeps_out_of_two_conditions_of_one_sign() -> None:
    nodes = list(chosen(TensorProto.INT32).nodes)
    nodes[5] = node("Cast", "c", "no", to=TensorProto.INT32)
    del nodes[4]
    assert_stays(model(TensorProto.INT32, *nodes), RULE, "")


def test_keeps_out_before_where() -> None:
    assert_stays(
        chosen(TensorProto.INT32).model(DIMS, dtype=TensorProto.INT32, opset=8),
        RULE,
        "Where came with opset 9",
    )


def test_leaves_products_that_are_outputs() -> None:
    for name in ("a", "b"):
        before = chosen(TensorProto.INT32).model(DIMS, dtype=TensorProto.INT32, outputs=["y", name])
        assert_stays(before, RULE, "the result of Mul is a graph output")
