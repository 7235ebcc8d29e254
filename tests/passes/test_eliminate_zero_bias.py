"""eliminate_zero_bias: what it keeps out of, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite

RULE = "eliminate_zero_bias"


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def linear(op: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, ["x", "w", "b"], ["y"], **attributes)


def recurrent(op: str, *more: str) -> NodeProto:
    return helper.make_node(op, ["x", "w", "r", "b", *more], ["", "y"], hidden_size=2)


CASES = {
    "Conv": (linear("Conv"), (2, 3, 5), {"w": normal(4, 3, 2), "b": zeros(4)}),
    "ConvTranspose": (linear("ConvTranspose"), (2, 3, 5), {"w": normal(3, 4, 2), "b": zeros(4)}),
    "Gemm": (linear("Gemm", alpha=0.5, beta=2.0), (2, 3), {"w": normal(3, 4), "b": zeros(4)}),
    "Gemm with a number": (linear("Gemm"), (2, 3), {"w": normal(3, 4), "b": zeros()}),
    "negative zero": (linear("Conv"), (2, 3, 5), {"w": normal(4, 3, 2), "b": -zeros(4)}),
    "LayerNormalization": (linear("LayerNormalization"), (2, 3), {"w": normal(3), "b": zeros(3)}),
    "LSTM": (recurrent("LSTM"), (5, 2, 3), {"w": normal(1, 8, 3), "r": normal(1, 8, 2), "b": zeros(1, 16)}),
    "GRU": (
        recurrent("GRU", "", "h"),
        (5, 2, 3),
        {"w": normal(1, 6, 3), "r": normal(1, 6, 2), "b": zeros(1, 12), "h": normal(1, 2, 2)},
    ),
}


def model_of(case: str, **options: object) -> onnx.ModelProto:
    each, dims, weights = CASES[case]
    return make_model([each], {"x": dims}, ["y"], weights, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str) -> None:
    model = model_of(case)
    after = rewrite(model, RULE, "remove_unused_initializers")
    assert after.fired[RULE] == 1
    assert "b" not in [name for each in after.model.graph.node for name in each.input]
    assert list(after.model.graph.node[0].output) == list(model.graph.node[0].output)
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("case", CASES)
def test_keeps_one_that_is_not_zero_everywhere(case: str) -> None:
    model = model_of(case)
    bias = next(each for each in model.graph.initializer if each.name == "b")
    array = onnx.numpy_helper.to_array(bias).copy()
    array.flat[-1] = 1e-30
    bias.CopyFrom(onnx.numpy_helper.from_array(array, "b"))
    assert rewrite(model, RULE).fired == {}


def test_keeps_one_that_the_caller_may_override() -> None:
    assert rewrite(model_of("Conv", overridable=["b"]), RULE).fired == {}


def test_keeps_that_of_gemm_where_it_is_required() -> None:
    assert rewrite(model_of("Gemm", opset=10), RULE).fired == {}
