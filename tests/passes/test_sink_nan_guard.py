"""sink_nan_guard: what fires, rows and values that are not finite, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.sink_nan_guard import RULE
from tests.helpers import Feeds, f32, make_model, node, random_feeds
from tests.passes.forms import assert_changes, assert_stays

SOFTMAX = node("Softmax", "x", "p", axis=-1)
GUARD = [node("IsNaN", "p", "bad"), node("Where", "bad zero p", "safe")]


def guarded(
    softmax: onnx.NodeProto = SOFTMAX,
    guard: Sequence[onnx.NodeProto] = GUARD,
    product: str = "safe v",
    *,
    dims: Sequence[int | str] = ("b", 2, 5, 7),
    values: Sequence[int | str] = ("b", 2, 7, 3),
    zero: npt.ArrayLike = 0,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Softmax of scores x, guarded, times v."""
    nodes = [softmax, *guard, node("MatMul", product, "y")]
    weights = {"zero": np.asarray(zero, onnx.helper.tensor_dtype_to_np_dtype(dtype))}
    return make_model(nodes, {"x": dims, "v": values}, outputs, weights, opset=opset, dtype=dtype)


def odd_feeds(model: onnx.ModelProto) -> Feeds:
    """Rows of scores and columns of v that are not finite, alone and together."""
    feeds = random_feeds(model, b=4)
    feeds["x"][1:, 0, 1] = -np.inf
    feeds["x"][1:, 0, 2, 3] = np.nan
    feeds["x"][1:, 0, 3, 3] = -np.inf
    feeds["v"][2:, 0, 3, 0] = np.nan
    feeds["v"][2:, 1, 4, 1] = np.inf
    feeds["v"][3:, 1, 2, 1] = -np.inf
    return feeds


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_fires(opset: int) -> None:
    model = guarded(opset=opset)
    after = assert_changes(model, RULE)
    assert after.ops == {"Softmax": 1, "MatMul": 1, "Mul": 1, "ReduceSum": 1, "IsNaN": 1, "Where": 1}
    assert_changes(model, RULE, feeds=odd_feeds(model))


@pytest.mark.parametrize(
    ("dims", "values"),
    [
        ((5, 7), (7, 3)),
        (("b", 2, 5, 7), (7, 3)),
        ((2, 5, 7), ("b", 2, 7, 3)),
        (("b", 2, 5, "n"), ("b", 2, "n", 3)),
    ],
)
def test_fires_for_any_ranks(dims: Sequence[int | str], values: Sequence[int | str]) -> None:
    assert_changes(guarded(dims=dims, values=values), RULE)


def test_fires_for_an_axis_from_the_front() -> None:
    assert_changes(guarded(node("Softmax", "x", "p", axis=3)), RULE)


def test_p_may_have_other_users() -> None:
    assert_changes(guarded(outputs=["p", "y"]), RULE)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (guarded(node("Softmax", "x", "p", axis=-2)), "Softmax is not along the rows"),
        (guarded(node("Log", "x", "p")), "what may be NaN is no Softmax"),
        (guarded(zero=1), "NaN becomes something other than 0"),
        (guarded(zero=np.zeros((3, 1, 1, 1, 1))), "NaN becomes something other than 0"),
        (guarded(values=("b", 2, 7, 7)), "the product is no narrower"),
        (guarded(values=(7,)), "the operands of the product are not known to be matrices"),
        (guarded(dtype=TensorProto.DOUBLE), "it is for float32, since opset 13"),
        (guarded(opset=11), "it is for float32, since opset 13"),
        (guarded(outputs=["safe", "y"]), "the result of Where is a graph output"),
        (guarded(outputs=["bad", "y"]), "the result of IsNaN is a graph output"),
        (guarded(product="v safe", values=("b", 2, 3, 5)), ""),
        (guarded(guard=[GUARD[0], node("Where", "bad p zero", "safe")]), ""),
        (guarded(guard=[node("IsNaN", "x", "bad"), GUARD[1]]), ""),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    assert_stays(model, RULE, reason)


def test_keeps_out_of_a_guard_that_others_use() -> None:
    nodes = [SOFTMAX, *GUARD, node("MatMul", "safe v", "y"), node("Relu", "safe", "z")]
    model = make_model(nodes, {"x": ("b", 2, 5, 7), "v": ("b", 2, 7, 3)}, ["y", "z"], {"zero": f32(0)})
    assert_stays(model, RULE, "the result of Where has other users")
