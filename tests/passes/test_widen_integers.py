"""widen_integers: each operator and type, the extreme numbers, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.widen_integers import RULE
from tests.helpers import make_model, node
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves

INT8, UINT8, INT32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
DIMS = (1, 4, 2, 4)
PADS = [0, 0, 1, 2, 0, 0, 0, 1]
CONDITION = np.array([True, False, False, True])
INDICES = np.array([[0, 1], [0, 3]])


def one(
    op_type: str,
    inputs: str,
    dtype: int,
    weights: dict[str, npt.ArrayLike] | None = None,
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """One operator; inputs called x or z are fed, those that have a number are of its type."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    arrays = {
        name: np.asarray(array, kind) if isinstance(array, int) else np.asarray(array)
        for name, array in (weights or {}).items()
    }
    fed = {name: DIMS for name in inputs.split() if name in "xz"}
    nodes = [node(op_type, inputs, "y", **attributes)]
    return make_model(nodes, fed, ["y"], arrays, opset=opset, dtype=dtype)


def extremes(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return random integers with the least, the largest and equal ones among them."""
    rng, feeds = np.random.default_rng(0), {}
    for info in model.graph.input:
        kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        low, high = (0, 1) if kind == np.bool_ else (np.iinfo(kind).min, np.iinfo(kind).max)
        array = rng.integers(low, high, DIMS, endpoint=True)
        array[0, :2, 0, 0] = array[0, 2, :, 1] = low, high
        feeds[info.name] = array.astype(kind)
    return feeds


def moves(model: onnx.ModelProto, casts: int) -> None:
    """Assert that the operator is computed between casts, to the last bit."""
    (root,) = model.graph.node
    after = assert_moves(model, RULE, feeds=extremes(model))
    assert after.ops == {"Cast": casts, root.op_type: 1}


@pytest.mark.parametrize("opset", [12, 13, 17, 21])
@pytest.mark.parametrize(
    ("inputs", "weights"),
    [
        ("x low high", {"low": -(2**30) - 1, "high": 2**30 + 1}),
        ("x low", {"low": -7}),
        ("x", {}),
    ],
)
def test_clip(inputs: str, weights: dict[str, npt.ArrayLike], opset: int) -> None:
    moves(one("Clip", inputs, INT32, weights, opset), 2)


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("dtype", [INT8, UINT8, INT32])
@pytest.mark.parametrize(
    ("inputs", "mode"), [("x pads", "constant"), ("x pads v", "constant"), ("x pads", "reflect")]
)
def test_pad(inputs: str, mode: str, dtype: int, opset: int) -> None:
    weights: dict[str, npt.ArrayLike] = {"pads": PADS, "v": 101}
    used = {name: weights[name] for name in inputs.split()[1:]}
    moves(one("Pad", inputs, dtype, used, opset, mode=mode), 2)


@pytest.mark.parametrize("op_type", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("dtype", [INT8, UINT8])
@pytest.mark.parametrize("opset", [12, 17, 21])
def test_comparisons(op_type: str, dtype: int, opset: int) -> None:
    moves(one(op_type, "x z", dtype, opset=opset), 2)


@pytest.mark.parametrize("op_type", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [INT8, UINT8])
def test_maxima(op_type: str, dtype: int) -> None:
    moves(one(op_type, "x z", dtype), 3)
    moves(one(op_type, "x number", dtype, {"number": 100}), 2)


@pytest.mark.parametrize("dtype", [INT8, UINT8, BOOL])
def test_tile(dtype: int) -> None:
    moves(one("Tile", "x repeats", dtype, {"repeats": [2, 1, 1, 3]}), 2)


@pytest.mark.parametrize("dtype", [INT8, UINT8, INT32])
def test_gather_nd(dtype: int) -> None:
    moves(one("GatherND", "x indices", dtype, {"indices": INDICES}), 2)


@pytest.mark.parametrize("dtype", [INT8, INT32])
@pytest.mark.parametrize("opset", [14, 21])
def test_relu(dtype: int, opset: int) -> None:
    moves(one("Relu", "x", dtype, opset=opset), 2)


def test_where() -> None:
    moves(one("Where", "c x z", INT8, {"c": CONDITION}), 3)


@pytest.mark.parametrize("op_type", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("dtype", [INT8, UINT8])
def test_depth_and_space(op_type: str, dtype: int) -> None:
    moves(one(op_type, "x", dtype, blocksize=2), 2)


@pytest.mark.parametrize(
    ("op_type", "inputs", "dtype"),
    [
        ("Clip", "x", INT64),
        ("Clip", "x", UINT8),
        ("Max", "x z", INT32),
        ("Equal", "x z", BOOL),
        ("Relu", "x", TensorProto.FLOAT),
    ],
)
def test_leaves_what_has_a_kernel(op_type: str, inputs: str, dtype: int) -> None:
    assert_stays(one(op_type, inputs, dtype), RULE, "")


def test_leaves_what_no_type_is_wide_enough_for() -> None:
    assert_stays(one("Pad", "x pads", INT64, {"pads": PADS}), RULE, "")
