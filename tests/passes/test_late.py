"""Weights that are scaled when the model is saved: the answers, and when they are scaled at once instead."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from fuseonnx.passes._change import Change
from fuseonnx.passes._late import scaled_late
from tests.helpers import assert_same_answers, make_model, node, rewrite

RULE = "fold_scale_over_distance"
ROWS, COLUMNS = 256, 1024  # 1 MiB of float32


def _model(*scales: float, dtype: int = TensorProto.FLOAT, weight: float = 1.0) -> onnx.ModelProto:
    """x ─ MatMul(w) ─ Relu ─ ·scale ─ Relu ─ ·scale … ─ y."""
    to = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    rows = ROWS * 4 // to.itemsize
    weights = {"w": (weight * np.random.default_rng(0).normal(size=(rows, COLUMNS))).astype(to)}
    nodes, before = [node("MatMul", "x w", "p")], "p"
    for index, scale in enumerate(scales):
        weights[f"s{index}"] = np.array(scale, to)
        nodes += [node("Relu", before, f"r{index}"), node("Mul", f"r{index} s{index}", f"m{index}")]
        before = f"m{index}"
    nodes.append(node("Tanh", before, "y"))
    return make_model(nodes, {"x": [2, rows]}, ["y"], weights, dtype=dtype)


@pytest.mark.parametrize("scales", [(0.25,), (0.3, 0.05), (0.7, 0.9, 0.01)], ids=str)
def test_several_scales_of_one_large_weight(scales: tuple[float, ...]) -> None:
    model = _model(*scales)
    after = rewrite(model, RULE)
    assert after.fired[RULE] == len(scales)
    assert "Mul" not in after.ops
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("scale", [0.5, 3e4])
def test_half_precision_that_overflows_stays_and_that_does_not_fires(scale: float) -> None:
    model = _model(scale, dtype=TensorProto.FLOAT16, weight=4.0)
    after = rewrite(model, RULE)
    assert after.fired.get(RULE, 0) == (scale < 1)
    assert_same_answers(model, after.model, rtol=1e-2)


def _late(array: np.ndarray, *factors: float) -> object:
    value = ir.Value(name="w", const_value=ir.Tensor(array))
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
    graph = ir.Graph([], [], nodes=[], initializers=[value])
    assert graph.initializers["w"] is value
    change = Change(is_scale=True, values=np.array(factors))
    return scaled_late(value, change, change.apply)


def test_small_weights_and_weights_near_the_limits_are_scaled_at_once() -> None:
    large = np.ones((ROWS, COLUMNS), np.float32)
    assert _late(large, 2.0) is not None
    assert _late(large[:-1], 2.0) is None
    assert _late(large * np.float32(1e38), 10.0) is None
    assert _late(large * np.float32(1e-38), 0.1) is None
    large[3, 4] = np.nan
    assert _late(large, 2.0) is None
