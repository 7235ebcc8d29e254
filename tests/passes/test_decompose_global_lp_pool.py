"""decompose_global_lp_pool: both norms, every rank, and what has no reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_global_lp_pool import RULE
from tests.helpers import make_model, node
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves


def pool(
    dims: Sequence[int | str] = ("n", 4, 5, 6),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    **attributes: Any,
) -> onnx.ModelProto:
    """GlobalLpPool of x."""
    return make_model(
        [node("GlobalLpPool", "x", "y", **attributes)], {"x": dims}, ["y"], opset=opset, dtype=dtype
    )


@pytest.mark.parametrize("opset", [7, 13, 17, 18, 21])
@pytest.mark.parametrize(
    ("attributes", "op_type"), [({}, "ReduceL2"), ({"p": 2}, "ReduceL2"), ({"p": 1}, "ReduceL1")]
)
def test_fires(opset: int, attributes: dict[str, Any], op_type: str) -> None:
    assert assert_moves(pool(opset=opset, **attributes), RULE).ops == {op_type: 1}


@pytest.mark.parametrize("dims", [("n", 4, "w"), (2, 3, "h", "w"), (2, 3, 4, 5, 6)])
def test_every_rank(dims: Sequence[int | str]) -> None:
    assert_moves(pool(dims), RULE)


def test_float16_is_computed_in_float32() -> None:
    after = assert_moves(pool(dtype=TensorProto.FLOAT16), RULE, rtol=1e-3)
    assert after.ops == {"Cast": 2, "ReduceL2": 1}


def test_keeps_out_of_another_norm() -> None:
    assert_stays(pool(p=3), RULE, "no reduction has this p")


def test_keeps_out_without_spatial_axes() -> None:
    assert_stays(pool((2, 3)), RULE, "the rank is unknown, or there is no spatial axis")


@pytest.mark.parametrize("model", [pool(dtype=TensorProto.DOUBLE), pool(opset=22)], ids=["doubles", "opset"])
def test_keeps_out_of_what_no_device_has_a_kernel_for(model: onnx.ModelProto) -> None:
    assert_stays(model, RULE, "onnxruntime has no GlobalLpPool of this opset and dtype")
