"""decompose_elu: Celu everywhere, Elu and Selu where their CUDA kernels end."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_elu import RULE
from tests.helpers import f32, make_model, node, run_reference
from tests.passes.forms import assert_stays, rewrite_form
from tests.passes.gpu import assert_moves


def bent(op_type: str, opset: int = 22, dtype: int = TensorProto.FLOAT, **attributes: Any) -> onnx.ModelProto:
    """One of the operators on x."""
    nodes = [node(op_type, "x", "y", **attributes)]
    return make_model(nodes, {"x": ("n", 40)}, ["y"], opset=opset, dtype=dtype)


@pytest.mark.parametrize("alpha", [None, 0.3, 1.0, 2.5])
@pytest.mark.parametrize(("op_type", "opset"), [("Celu", 12), ("Celu", 17), ("Celu", 22), ("Elu", 22)])
def test_fires(op_type: str, opset: int, alpha: float | None) -> None:
    attributes: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
    model = bent(op_type, opset, **attributes)
    after = assert_moves(model, RULE, rtol=1e-6)
    scaled = alpha not in (None, 1.0)
    steps = {"Exp": 1, "Sub": 1, "Greater": 1, "Where": 1} | ({"Mul": 1} if scaled else {})
    assert after.ops == steps | ({"Div": 1} if scaled and op_type == "Celu" else {})


@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.7}, {"gamma": 1.0}, {"alpha": 2.0, "gamma": 0.5}])
def test_fires_on_selu(attributes: dict[str, Any]) -> None:
    assert_moves(bent("Selu", **attributes), RULE, rtol=1e-6)


@pytest.mark.parametrize("op_type", ["Celu", "Elu", "Selu"])
def test_extreme_values(op_type: str) -> None:
    """What Exp makes infinite is not chosen; NaN stays; nothing is lost below the scale of α."""
    model = bent(op_type, alpha=0.25)
    x = f32([3e38, -3e38, np.inf, -np.inf, np.nan, 0, -0.0, 1e-30, -1e-30, 90, -90, *range(-14, 15)])[None]
    after = rewrite_form(model, RULE)
    found, expected = (run_reference(each, {"x": x})["y"] for each in (after.model, model))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_float16_is_computed_in_float32() -> None:
    after = assert_moves(bent("Elu", dtype=TensorProto.FLOAT16), RULE, rtol=1e-3)
    assert after.ops["Cast"] == 2


@pytest.mark.parametrize("op_type", ["Elu", "Selu"])
def test_keeps_out_where_there_is_a_kernel(op_type: str) -> None:
    assert_stays(bent(op_type, 21), RULE, "there is a CUDA kernel before opset 22")


@pytest.mark.parametrize("alpha", [-1.0, 0.0])
def test_keeps_out_of_a_slope_that_turns_the_sign(alpha: float) -> None:
    assert_stays(bent("Elu", alpha=alpha), RULE, "alpha is not positive")


def test_keeps_out_of_doubles() -> None:
    assert_stays(bent("Elu", dtype=TensorProto.DOUBLE), RULE, "onnxruntime has no kernel of this dtype")
