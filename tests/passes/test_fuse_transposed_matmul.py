"""fuse_transposed_matmul: what fires, and each precondition broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import node, rewrite
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "fuse_transposed_matmul"
NOT_MATRICES = "the product is not known to be one of matrices"


@pytest.mark.parametrize("perm", [None, [1, 0]])
def test_fires_on_the_first_matrix(perm: list[int] | None) -> None:
    transpose = helper.make_node("Transpose", ["x"], ["t"], perm=perm)
    model = model_of([transpose, node("MatMul", "t w", "y")], (4, "rows"), {"w": normal(4, 6)})
    assert_becomes(model, RULE, {"Gemm": 1})


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("opset", [11, 13, 21])
def test_fires_on_the_second_matrix(opset: int, dtype: int) -> None:
    nodes = [node("Transpose", "z", "t"), node("MatMul", "x t", "y")]
    model = model_of(nodes, ("rows", 4), {}, inputs={"z": (6, 4)}, opset=opset, dtype=dtype)
    assert_becomes(model, RULE, {"Gemm": 1})


def test_leaves_a_second_transpose_to_the_gemm() -> None:
    nodes = [node("Transpose", "x", "s"), node("Transpose", "z", "t"), node("MatMul", "s t", "y")]
    model = model_of(nodes, (3, 5), {}, inputs={"z": (4, 3)})
    assert_becomes(model, RULE, {"Gemm": 1, "Transpose": 1})
    assert rewrite(model).ops == {"Gemm": 1}


@pytest.mark.parametrize("dims", [(2, 4, 3), (4,)], ids=str)
def test_keeps_out_of_vectors_and_stacks(dims: tuple[int, ...]) -> None:
    perm = [0, 2, 1][: len(dims)]
    nodes = [node("Transpose", "x", "t", perm=perm), node("MatMul", "t w", "y")]
    assert_kept(model_of(nodes, dims, {"w": normal(4, 6)}), RULE, NOT_MATRICES)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"perm": [0, 1]}, "the matrix stays as it is"),
        ({"opset": 9}, "Gemm needs a third input before opset 11"),
        ({"dtype": TensorProto.INT32}, "Gemm is for floats"),
    ],
)
def test_keeps_out(options: dict[str, Any], reason: str) -> None:
    nodes = [node("Transpose", "x", "t", perm=options.pop("perm", [1, 0])), node("MatMul", "t w", "y")]
    integers = np.arange(16, dtype=np.int32).reshape(4, 4)
    weights = {"w": integers if options.get("dtype") == TensorProto.INT32 else normal(4, 4)}
    assert_kept(model_of(nodes, (4, 4), weights, **options), RULE, reason)


def test_keeps_out_of_a_transpose_that_others_read() -> None:
    nodes = [node("Transpose", "x", "t"), node("MatMul", "t w", "y")]
    model = model_of(nodes, (4, 3), {"w": normal(4, 6)}, outputs=["y", "t"])
    assert_kept(model, RULE, "the result of Transpose is a graph output")
