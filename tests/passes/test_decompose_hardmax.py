"""decompose_hardmax: axes, ties, and sizes that have to be known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_hardmax import RULE
from tests.helpers import make_model, node
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves


def hardmax(
    dims: Sequence[int | str] = ("n", 4, 5),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    **attributes: Any,
) -> onnx.ModelProto:
    """Hardmax of x."""
    return make_model([node("Hardmax", "x", "y", **attributes)], {"x": dims}, ["y"], opset=opset, dtype=dtype)


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("attributes", [{}, {"axis": -1}, {"axis": 1}, {"axis": -2}])
def test_fires(opset: int, attributes: dict[str, Any]) -> None:
    assert assert_moves(hardmax(opset=opset, **attributes), RULE).ops == {"ArgMax": 1, "OneHot": 1}


@pytest.mark.parametrize(
    ("dims", "attributes"), [((3, 4), {}), ((2, 3, 4), {"axis": 2}), ((2, 3, 4), {"axis": -1})]
)
def test_the_last_axis_before_opset_13(dims: Sequence[int], attributes: dict[str, Any]) -> None:
    assert_moves(hardmax(dims, 12, **attributes), RULE)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_the_first_of_several_maxima(dtype: int) -> None:
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    x = np.array([[[0, 1, 1, -1, 1], [2, 2, 2, 2, 2], [-3, -3, -4, -3, -9], [5, 0, 0, 0, 5]]], kind)
    assert_moves(hardmax(dtype=dtype), RULE, feeds={"x": x})


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(hardmax((3, "c")), "the size of the axis is unknown", id="unknown size"),
        pytest.param(
            hardmax((2, 3, 4), 12),
            "before opset 13 the axes from there on count as one",
            id="several axes at once",
        ),
        pytest.param(hardmax((3, 4), 10), "OneHot has no CUDA kernel before opset 11", id="old opset"),
        pytest.param(
            hardmax(dtype=TensorProto.DOUBLE), "onnxruntime has no Hardmax of this dtype", id="doubles"
        ),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    assert_stays(model, RULE, reason)
