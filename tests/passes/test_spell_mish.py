"""spell_mish: what fires, the special values, and what it keeps out of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes import fuse_mish
from fuseonnx.passes.spell_mish import RULE
from tests.helpers import f32, make_model, node, run_reference
from tests.passes.forms import assert_changes, assert_stays, rewrite_form

OPERATOR = (node("Mish", "x", "y"),)
SPELLED = (node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "y"))
SWAPPED = (*SPELLED[:2], node("Mul", "t x", "y"))
LEAVES = {"Clip": 1, "Exp": 1, "Add": 2, "Mul": 2, "Div": 1}
SPECIAL = f32([np.nan, np.inf, -np.inf, 0, -0.0, 1e-30, -1e-30, 88, -88, 100, 3.4e38, -3.4e38])


def model(
    nodes: Sequence[onnx.NodeProto] = OPERATOR,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Nodes from x [batch, 4, 5] to y."""
    inputs = {"x": ("batch", 4, 5), **({"z": ("batch", 4, 5)} if "z" in nodes[0].input else {})}
    return make_model(nodes, inputs, outputs, opset=opset, dtype=dtype)


@pytest.mark.parametrize("opset", [18, 22])
def test_fires_on_the_operator(opset: int) -> None:
    assert assert_changes(model(opset=opset), RULE).ops == LEAVES


@pytest.mark.parametrize("nodes", [SPELLED, SWAPPED], ids=["x first", "x last"])
@pytest.mark.parametrize("opset", [11, 17, 22])
def test_fires_on_the_three_operators(nodes: Sequence[onnx.NodeProto], opset: int) -> None:
    assert assert_changes(model(nodes, opset=opset), RULE).ops == LEAVES


def test_keeps_values_that_are_special() -> None:
    assert_changes(model(), RULE, feeds={"x": np.resize(SPECIAL, (3, 4, 5))})


def test_is_no_less_exact() -> None:
    before = model()
    x = np.concatenate([np.linspace(-80, 80, 12_000), np.random.default_rng(0).normal(0, 3, 8_000)])
    feeds = {"x": f32(x).reshape(-1, 4, 5)}
    wide = feeds["x"].astype(np.float64)
    exact = wide * np.tanh(np.log1p(np.exp(wide)))

    def error(of: onnx.ModelProto) -> float:
        return float(np.max(np.abs(run_reference(of, feeds)["y"] / exact - 1)))

    assert error(rewrite_form(before, RULE).model) <= error(before) < 1e-6


@pytest.mark.parametrize(
    ("opset", "dtype"), [(10, TensorProto.FLOAT), (17, TensorProto.DOUBLE), (17, TensorProto.FLOAT16)]
)
def test_keeps_out_of_other_opsets_and_dtypes(opset: int, dtype: int) -> None:
    assert_stays(model(SPELLED, opset=opset, dtype=dtype), RULE, "it is for float32, since opset 11")


def test_keeps_out_of_the_product_with_another_value() -> None:
    other = (node("Softplus", "z", "s"), *SPELLED[1:])
    assert_stays(make_model(other, {"x": ("n",), "z": ("n",)}, ["y"]), RULE, "")


@pytest.mark.parametrize("name", ["s", "t"])
def test_leaves_inner_values_that_are_outputs(name: str) -> None:
    op_type = {"s": "Softplus", "t": "Tanh"}[name]
    assert_stays(model(SPELLED, outputs=["y", name]), RULE, f"the result of {op_type} is a graph output")


def test_leaves_inner_values_that_others_use() -> None:
    nodes = (*SPELLED, node("Neg", "s", "w"))
    after = rewrite_form(model(nodes, outputs=["y", "w"]), RULE)
    assert not after.fired


def test_takes_the_operator_that_fuse_mish_has_made() -> None:
    after = rewrite_form(model(SPELLED), fuse_mish.RULE, RULE)
    assert after.ops == LEAVES
