"""decompose_tan: the quotient, next to the poles too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_tan import RULE
from tests.helpers import f32, make_model, node, run_reference
from tests.passes.forms import assert_stays, rewrite_form
from tests.passes.gpu import assert_moves


def tan(opset: int = 17, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Tan of x."""
    return make_model([node("Tan", "x", "y")], {"x": ("n", 50)}, ["y"], opset=opset, dtype=dtype)


@pytest.mark.parametrize("opset", [7, 13, 17, 22])
def test_fires(opset: int) -> None:
    assert assert_moves(tan(opset), RULE).ops == {"Sin": 1, "Cos": 1, "Div": 1}


def test_each_value_keeps_its_digits() -> None:
    """Relative to each value: 0, the smallest numbers, the nearest neighbours of the poles, large ones."""
    near = [step for pole in (0.5, 1.5, -2.5) for step in _neighbours(np.float32(pole * np.pi))]
    x = f32([*near, 0, -0.0, 1e-38, -1e-20, 1e-3, 100, 1e4, -3e4, *np.linspace(-8, 8, 33)])[None]
    after = rewrite_form(tan(), RULE)
    found = run_reference(after.model, {"x": x})["y"]
    np.testing.assert_allclose(found, run_reference(tan(), {"x": x})["y"], rtol=2e-6)


def _neighbours(number: np.float32) -> list[np.float32]:
    return [number, np.nextafter(number, np.float32(0)), np.nextafter(number, np.float32(9 * number))]


def test_float16_is_computed_in_float32() -> None:
    after = assert_moves(tan(dtype=TensorProto.FLOAT16), RULE, rtol=1e-3)
    assert after.ops == {"Cast": 2, "Sin": 1, "Cos": 1, "Div": 1}


def test_keeps_out_of_doubles() -> None:
    assert_stays(tan(dtype=TensorProto.DOUBLE), RULE, "onnxruntime has no Tan of this dtype")
