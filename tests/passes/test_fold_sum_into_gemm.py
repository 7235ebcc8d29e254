"""fold_sum_into_gemm: what fires, and each precondition broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers import node
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "fold_sum_into_gemm"
MAY_GROW = "the sum is not known to keep the shape of the product"


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dims", [(), (1,), (6,), (1, 6), (5, 1), (5, 6)], ids=str)
def test_fires_on_what_broadcasts_to_the_product(dims: tuple[int, ...], first: bool) -> None:
    nodes = [node("Gemm", "x w", "g", alpha=0.5, beta=3.0), node("Add", "c g" if first else "g c", "y")]
    model = model_of(nodes, (5, 4), {"w": normal(4, 6)}, inputs={"c": dims})
    assert_becomes(model, RULE, {"Gemm": 1})


def test_fires_on_a_sum_of_one_symbolic_shape() -> None:
    nodes = [node("Gemm", "x w", "g"), node("Relu", "x", "r"), node("Add", "g r", "y")]
    model = model_of(nodes, ("batch", 4), {"w": normal(4, 4)})
    assert_becomes(model, RULE, {"Gemm": 1, "Relu": 1})


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_fires_on_constants_and_transposed_weights(opset: int) -> None:
    nodes = [node("Gemm", "x w", "g", transB=1), node("Add", "g c", "y")]
    model = model_of(nodes, ("batch", 4), {"w": normal(6, 4), "c": normal(6)}, opset=opset)
    assert_becomes(model, RULE, {"Gemm": 1})


def test_fires_on_doubles() -> None:
    nodes = [node("Gemm", "x w", "g"), node("Add", "g c", "y")]
    weights = {"w": normal(4, 6), "c": normal(6)}
    model = model_of(nodes, (5, 4), weights, dtype=TensorProto.DOUBLE)
    assert_becomes(model, RULE, {"Gemm": 1}, rtol=1e-14)


@pytest.mark.parametrize(
    ("dims", "inputs"),
    [
        ((5, 4), {"c": (1, 5, 6)}),  # raises the rank
        ((1, 4), {"c": (5, 6)}),  # makes more rows
        (("batch", 4), {"c": (3, 6)}),  # makes more rows if the batch is 1
        (("batch", 4), {"c": ("rows", 6)}),
        (("batch", 4), {"c": (None, 6)}),
    ],
    ids=str,
)
def test_keeps_out_of_sums_that_may_be_larger(dims: Any, inputs: Any) -> None:
    nodes = [node("Gemm", "x w", "g"), node("Add", "g c", "y")]
    assert_kept(model_of(nodes, dims, {"w": normal(4, 6)}, inputs=inputs), RULE, MAY_GROW)


def test_keeps_out_before_opset_11_where_gemm_has_a_third_input() -> None:
    nodes = [node("Gemm", "x w c", "g"), node("Add", "g c", "y")]
    model = model_of(nodes, (5, 4), {"w": normal(4, 6), "c": np.ones(6, np.float32)}, opset=9)
    assert_kept(model, RULE)


def test_keeps_out_of_a_gemm_that_adds_already() -> None:
    nodes = [node("Gemm", "x w b", "g"), node("Add", "g c", "y")]
    weights = {"w": normal(4, 6), "b": normal(6)}
    assert_kept(model_of(nodes, (5, 4), weights, inputs={"c": (5, 6)}), RULE)


def test_keeps_out_of_a_product_that_others_read() -> None:
    nodes = [node("Gemm", "x w", "g"), node("Add", "g c", "y")]
    model = model_of(nodes, (5, 4), {"w": normal(4, 6), "c": normal(6)}, outputs=["y", "g"])
    assert_kept(model, RULE, "the result of Gemm is a graph output")
