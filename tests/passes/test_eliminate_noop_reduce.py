"""eliminate_noop_reduce: what it keeps out of and why, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept

RULE = "eliminate_noop_reduce"
OPS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
WEIGHTS = {"axes": np.array([1]), "none": np.array([], np.int64)}
Dims = tuple[int | str, ...]


def reduce(op: str, inputs: str = "x axes", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


@pytest.mark.parametrize(
    ("node", "dims", "reason"),
    [
        pytest.param(reduce("ReduceSum"), (3, 2), "an axis may be longer than 1", id="longer"),
        pytest.param(reduce("ReduceSum"), (3, "n"), "an axis may be longer than 1", id="open"),
        pytest.param(reduce("ReduceSum"), (3, 0), "an axis may be longer than 1", id="empty"),
        pytest.param(reduce("ReduceSum", "x"), (3, 1), "an axis may be longer than 1", id="all axes"),
        pytest.param(
            reduce("ReduceSum", "x none"), (3, 1), "an axis may be longer than 1", id="no axis is all"
        ),
        pytest.param(reduce("ReduceSum", keepdims=0), (3, 1), "the axes go", id="the axes go"),
        pytest.param(reduce("ReduceL2"), (3, 1), "", id="takes the magnitude"),
        pytest.param(reduce("ReduceLogSumExp"), (3, 1), "", id="rounds"),
    ],
)
def test_keeps(node: NodeProto, dims: Dims, reason: str) -> None:
    assert_kept(RULE, [node], dims, reason, WEIGHTS, opset=18)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("op", OPS)
def test_fires(where: str, op: str) -> None:
    assert_dropped(RULE, where, [reduce(op)], ("n", 1, 4), WEIGHTS, opset=18)


@pytest.mark.parametrize(
    ("node", "dims", "opset"),
    [
        pytest.param(reduce("ReduceMean", "x", axes=[-2]), ("n", 1, 4), 13, id="an attribute"),
        pytest.param(reduce("ReduceSum", "x"), (1, 1), 13, id="all axes have size 1"),
        pytest.param(reduce("ReduceSum", "x", noop_with_empty_axes=1), ("n", 4), 13, id="no-op without axes"),
        pytest.param(reduce("ReduceMax", "x none", noop_with_empty_axes=1), ("n", 4), 18, id="empty axes"),
        pytest.param(reduce("ReduceSum", "x", keepdims=0), (), 13, id="a number"),
    ],
)
def test_fires_in_other_spellings(node: NodeProto, dims: Dims, opset: int) -> None:
    assert_dropped(RULE, "in the middle", [node], dims, WEIGHTS, opset=opset)


def test_fires_on_integers() -> None:
    assert_dropped(
        RULE, "in the middle", [reduce("ReduceMean")], (3, 1), WEIGHTS, opset=18, dtype=TensorProto.INT32
    )
