"""fold_batchnorm_through_reshape: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, batch_norm_weights, node, rewrite
from tests.passes import folds
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "fold_batchnorm_through_reshape"
N = 6


def model(
    *,
    bias: tuple[int, ...] | None = None,
    target: Sequence[int] = (-1, N),
    dims: tuple[int | str, ...] = ("batch", 5, 4),
    attributes: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """A product, a Reshape, a BatchNormalization, and Relu."""
    results = options.pop("outputs_of_bn", ("n",))
    statistics = batch_norm_weights(target[1] if target[1] > 0 else N)
    weights = {"w": normal(4, N), "target": np.array(target, np.int64), **statistics}
    nodes = [node("MatMul", "x w", "p")]
    if bias is not None:
        weights["b"] = normal(*bias)
        nodes.append(node("Add", "b p", "s"))
    nodes += [
        node("Reshape", f"{nodes[-1].output[0]} target", "rows", **(attributes or {})),
        helper.make_node("BatchNormalization", ["rows", *statistics], results, epsilon=1e-3, **(extra or {})),
        node("Relu", "n", "y"),
        *options.pop("more", []),
    ]
    return model_of(nodes, dims, {**weights, **options.pop("weights", {})}, **options)


LEFT = {"MatMul": 1, "Add": 1, "Reshape": 1, "Relu": 1}


@pytest.mark.parametrize("bias", [None, (N,), (1,), (1, 1, N)], ids=str)
def test_fires_with_and_without_a_bias(bias: tuple[int, ...] | None) -> None:
    assert_becomes(model(bias=bias), RULE, LEFT)


@pytest.mark.parametrize("target", [(-1, N), (15, N), (15, -1)], ids=str)
def test_fires_on_any_spelling_of_the_target(target: tuple[int, int]) -> None:
    assert_becomes(model(target=target, dims=(3, 5, 4)), RULE, LEFT)


@pytest.mark.parametrize("dims", [("batch", 4), ("batch", 3, 5, 4)], ids=str)
def test_fires_on_products_of_any_rank(dims: tuple[int | str, ...]) -> None:
    assert_becomes(model(dims=dims), RULE, LEFT)


@pytest.mark.parametrize("opset", [9, 13, 14, 21])
def test_fires_in_any_opset(opset: int) -> None:
    assert_becomes(model(opset=opset, attributes={"allowzero": 1} if opset >= 14 else None), RULE, LEFT)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 2e-2), (TensorProto.DOUBLE, 1e-14)])
def test_new_weights_keep_the_dtype(dtype: int, rtol: float) -> None:
    after = assert_becomes(model(dtype=dtype), RULE, LEFT, rtol=rtol)
    assert dtype in {tensor.data_type for tensor in after.model.graph.initializer}


def test_fires_in_both_branches_of_an_if() -> None:
    before = folds.in_branches(model())
    after = rewrite(before, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(before):
        assert_same_answers(before, after.model, feeds)


@pytest.mark.parametrize(("target", "size"), [((-1, 3), 3), ((-1, 10), 10)])
def test_keeps_out_of_columns_that_are_broken_up(target: tuple[int, int], size: int) -> None:
    assert_kept(model(target=target), RULE, "the columns are not known to stay as they are")


def test_keeps_out_of_more_axes() -> None:
    before = model(dims=(3, 5, 4), target=(3, 6, 5))
    assert_kept(before, RULE, "the columns are not known to stay as they are")


def test_keeps_out_of_a_bias_that_varies_along_rows() -> None:
    assert_kept(model(bias=(5, 1)), RULE, "the weights or the bias vary along other axes")


def test_keeps_out_of_training_mode() -> None:
    before = model(extra={"training_mode": 1}, outputs_of_bn=("n", "running_mean", "running_var"))
    assert_kept(before, RULE, "BatchNormalization in training mode")


def test_keeps_out_of_shared_weights() -> None:
    twin = node("MatMul", "x w", "z")
    assert_kept(model(more=[twin], outputs=["y", "z"]), RULE, "the weights are shared")


@pytest.mark.parametrize("value", ["p", "rows"])
def test_keeps_out_of_results_that_are_read_elsewhere(value: str) -> None:
    op_type = {"p": "MatMul", "rows": "Reshape"}[value]
    assert_kept(model(outputs=["y", value]), RULE, f"the result of {op_type} is a graph output")
    other = model(more=[node("Neg", value, "z")], outputs=["y", "z"])
    assert_kept(other, RULE, f"the result of {op_type} has other users")


@pytest.mark.parametrize("name", ["w", "var"])
def test_keeps_out_of_overridable_constants(name: str) -> None:
    assert_kept(model(overridable=[name]), RULE)
