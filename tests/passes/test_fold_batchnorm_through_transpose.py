"""fold_batchnorm_through_transpose: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import batch_norm_weights, node
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "fold_batchnorm_through_transpose"
N = 6
LEFT = {"MatMul": 1, "Add": 1, "Transpose": 1, "Relu": 1}


def model(
    *,
    bias: tuple[int, ...] | None = None,
    perm: Sequence[int] = (0, 2, 1),
    dims: tuple[int | str, ...] = ("batch", N, 4),
    results: tuple[str, ...] = ("n",),
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """A product, a Transpose, a BatchNormalization, and Relu."""
    statistics = batch_norm_weights(N)
    weights = {"w": normal(4, N), **statistics}
    nodes = [node("MatMul", "x w", "p")]
    if bias is not None:
        weights["b"] = normal(*bias)
        nodes.append(node("Add", "p b", "s"))
    nodes += [
        node("Transpose", nodes[-1].output[0], "t", perm=list(perm)),
        helper.make_node("BatchNormalization", ["t", *statistics], results, epsilon=1e-3, **(extra or {})),
        node("Relu", "n", "y"),
        *options.pop("more", []),
    ]
    return model_of(nodes, dims, weights, **options)


@pytest.mark.parametrize("bias", [None, (N,), (1,), (1, 1, N)], ids=str)
def test_fires_with_and_without_a_bias(bias: tuple[int, ...] | None) -> None:
    assert_becomes(model(bias=bias), RULE, LEFT)


@pytest.mark.parametrize("perm", [(0, 3, 1, 2), (1, 3, 2, 0)], ids=str)
def test_fires_on_any_order_that_makes_channels_of_the_columns(perm: tuple[int, ...]) -> None:
    assert_becomes(model(perm=perm, dims=("batch", 3, 5, 4)), RULE, LEFT)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 2e-2), (TensorProto.DOUBLE, 1e-14)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    assert_becomes(model(dtype=dtype), RULE, LEFT, rtol=rtol)


@pytest.mark.parametrize("perm", [(2, 1, 0), (1, 0, 2)], ids=str)
def test_keeps_out_of_other_channels(perm: tuple[int, ...]) -> None:
    dims = (N, 3, 4) if perm[1] == 0 else (3, N, 4)
    assert_kept(model(perm=perm, dims=dims), RULE, "the columns do not become the channels")


def test_keeps_out_of_a_bias_that_varies_along_rows() -> None:
    assert_kept(model(bias=(N, 1)), RULE, "the weights or the bias vary along other axes")


def test_keeps_out_of_training_mode() -> None:
    before = model(extra={"training_mode": 1}, results=("n", "running_mean", "running_var"))
    assert_kept(before, RULE, "BatchNormalization in training mode")


def test_keeps_out_of_shared_weights() -> None:
    twin = node("MatMul", "x w", "z")
    assert_kept(model(more=[twin], outputs=["y", "z"]), RULE, "the weights are shared")


def test_keeps_out_of_results_that_are_read_elsewhere() -> None:
    assert_kept(model(outputs=["y", "t"]), RULE, "the result of Transpose is a graph output")
    other = model(more=[node("Neg", "p", "z")], outputs=["y", "z"])
    assert_kept(other, RULE, "the result of MatMul has other users")


def test_keeps_out_of_overridable_constants() -> None:
    assert_kept(model(overridable=["mean"]), RULE)
