"""decompose_mean: the sum over the number of inputs, broadcast or not."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_mean import RULE
from tests.helpers import f32, make_model, node
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves


def mean(inputs: str = "a b c", opset: int = 17, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Mean of some inputs, and of the constant w where it is among them."""
    dims = {name: (2, 3, 4) for name in inputs.split() if name != "w"}
    weights = {"w": f32([0.5, -3, 2, 7])} if "w" in inputs else {}
    return make_model([node("Mean", inputs, "y")], dims, ["y"], weights, opset=opset, dtype=dtype)


@pytest.mark.parametrize("inputs", ["a", "a b", "a a b", "a b c d e f g", "a w b", "w a"])
@pytest.mark.parametrize("opset", [8, 13, 22])
def test_fires(inputs: str, opset: int) -> None:
    assert assert_moves(mean(inputs, opset), RULE, rtol=1e-6).ops == {"Sum": 1, "Div": 1}


def test_inputs_of_different_shapes() -> None:
    model = make_model([node("Mean", "a b", "y")], {"a": ("n", 1, 4), "b": (3, 1)}, ["y"])
    assert assert_moves(model, RULE).ops == {"Sum": 1, "Div": 1}


def test_float16_is_computed_in_float32() -> None:
    after = assert_moves(mean(dtype=TensorProto.FLOAT16), RULE, rtol=1e-3)
    assert after.ops == {"Cast": 4, "Sum": 1, "Div": 1}


def test_keeps_out_before_sum_broadcasts() -> None:
    assert_stays(mean(opset=7), RULE, "Sum does not broadcast before opset 8")


def test_keeps_out_of_doubles() -> None:
    assert_stays(mean(dtype=TensorProto.DOUBLE), RULE, "onnxruntime has no Mean of this dtype")
