"""factor_gated_sum: what it keeps out of, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite

RULE = "factor_gated_sum"
Dims = Sequence[int | str | None]
IMAGE: Dims = ("n", 4, 6, 5)
GATE: Dims = ("n", 4, 1, 1)


def gated(
    x: Dims = IMAGE,
    g: Dims = GATE,
    *,
    product: str = "x s",
    total: str = "x p",
    outputs: Sequence[str] = ("y",),
    dtype: int = onnx.TensorProto.FLOAT,
) -> onnx.ModelProto:
    """x plus its product with the sigmoid of g."""
    gate = "Sigmoid" if dtype != onnx.TensorProto.INT32 else "Identity"
    nodes = [node(gate, "g", "s"), node("Mul", product, "p"), node("Add", total, "y")]
    return make_model(nodes, {"x": x, "g": g}, outputs, dtype=dtype)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(gated(g=IMAGE), "the gate is not smaller", id="a gate of the same size"),
        pytest.param(gated(x=(1, 4, 6, 5), g=(3, 4, 1, 1)), "the gate may widen the product", id="widens"),
        pytest.param(gated(g=("m", 4, 1, 1)), "the gate may widen the product", id="another batch"),
        pytest.param(gated(g=(None, 4, 1, 1)), "the gate may widen the product", id="unknown batch"),
        pytest.param(
            gated(x=(4, 6, 5), g=(1, 4, 1, 1)),
            "the shapes are unknown, or the gate is the larger one",
            id="another axis",
        ),
        pytest.param(gated(x=("n", 1), g=("n", 1)), "the gate is not smaller", id="a single number"),
        pytest.param(gated(dtype=onnx.TensorProto.INT32), "the type is not a float", id="integers"),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert not after.fired
    assert reason in after.declined[RULE]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(gated(outputs=("y", "p")), id="the product is an output"),
        pytest.param(gated(product="s s"), id="another product"),
    ],
)
def test_does_not_match(model: onnx.ModelProto) -> None:
    assert not rewrite(model, RULE).fired


def test_keeps_out_of_a_product_that_others_use() -> None:
    nodes = [node("Mul", "x g", "p"), node("Add", "x p", "y"), node("Relu", "p", "z")]
    assert not rewrite(make_model(nodes, {"x": IMAGE, "g": GATE}, ["y", "z"]), RULE).fired


def test_keeps_out_where_the_gate_is_added() -> None:
    nodes = [node("Mul", "x g", "p"), node("Add", "g p", "y")]
    assert not rewrite(make_model(nodes, {"x": IMAGE, "g": GATE}, ["y"]), RULE).fired


def test_keeps_out_of_a_constant_gate() -> None:
    nodes = [node("Mul", "x c", "p"), node("Add", "x p", "y")]
    weights = {"c": np.random.default_rng(0).normal(size=(4, 1, 1)).astype(np.float32)}
    assert not rewrite(make_model(nodes, {"x": IMAGE}, ["y"], weights), RULE).fired


@pytest.mark.parametrize("product", ["x s", "s x"])
@pytest.mark.parametrize("total", ["x p", "p x"])
@pytest.mark.parametrize(
    ("x", "g"), [(IMAGE, GATE), ((2, 3), ()), ((2, 7, 3), (7, 1)), ((2, 3, 4), (2, 1, 4))]
)
def test_fires(product: str, total: str, x: Dims, g: Dims) -> None:
    model = gated(x, g, product=product, total=total)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Sigmoid": 1, "Add": 1, "Mul": 1}
    assert after.model.graph.node[-1].op_type == "Mul"
    assert_same_answers(model, after.model)


def test_fires_on_doubles() -> None:
    model = gated(dtype=onnx.TensorProto.DOUBLE)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
