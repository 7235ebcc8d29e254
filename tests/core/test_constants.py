"""Constants: every spelling of a Constant node has its data and dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from fuseonnx.core.constants import array_of, constant_tensor, is_const


def _constant(**attributes: Any) -> ir.Value:
    return ir.serde.deserialize_node(helper.make_node("Constant", [], ["c"], **attributes)).outputs[0]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([[1, 2]], np.int8))}, np.array([[1, 2]], np.int8)),
        ({"value_float": 0.1}, np.array(0.1, np.float32)),
        ({"value_floats": [0.1, -0.0]}, np.array([0.1, -0.0], np.float32)),
        ({"value_int": 2**40}, np.array(2**40, np.int64)),
        ({"value_ints": [3, -4]}, np.array([3, -4], np.int64)),
    ],
)
def test_every_spelling(attributes: dict[str, Any], expected: np.ndarray) -> None:
    value = _constant(**attributes)
    assert is_const(value)
    found = array_of(value)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_strings() -> None:
    one, several = _constant(value_string="é"), _constant(value_strings=["a", "é"])
    assert (is_const(one), is_const(several)) == (True, True)
    assert constant_tensor(one).numpy().tolist() == "é".encode()
    assert constant_tensor(several).numpy().tolist() == [b"a", "é".encode()]


def test_what_is_no_constant() -> None:
    assert not is_const(None)
    assert not is_const(ir.Value(name="input"))
    reference = ir.Node("", "Constant", (), (ir.RefAttr("value", "parameter", ir.AttributeType.TENSOR),))
    assert not is_const(reference.outputs[0])
    assert not is_const(ir.Node("", "Constant", ()).outputs[0])
    assert not is_const(ir.Node("custom", "Constant", (), (ir.AttrInt64("value_int", 3),)).outputs[0])
    with pytest.raises(ValueError, match="'input' is not a constant"):
        array_of(ir.Value(name="input"))
