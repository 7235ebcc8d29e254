"""fold_transpose_into_gemm: what fires, and each precondition broken once."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.helpers import node
from tests.passes.branches import assert_becomes, assert_kept, model_of, normal

RULE = "fold_transpose_into_gemm"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("perm", [None, [1, 0]])
@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("which", ["A", "B"])
def test_fires_on_either_matrix(which: str, flag: int, perm: list[int] | None, bias: bool) -> None:
    dims = (3, 5) if (which == "A") != flag else (5, 3)
    weights = {"w": normal(3, 4) if which == "A" else normal(4, 3)}
    if bias:
        weights["c"] = normal(5, 4) if which == "A" else normal(4, 5)
    attributes: dict[str, Any] = {"alpha": 0.5, "beta": 2.0, f"trans{which}": flag}
    inputs = ["t", *weights] if which == "A" else ["w", "t", *(["c"] if bias else [])]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        helper.make_node("Gemm", inputs, ["y"], name="gemm", **attributes),
    ]
    after = assert_becomes(model_of(nodes, dims, weights), RULE, {"Gemm": 1})
    assert after.model.graph.node[0].name == "gemm"


def test_fires_on_both_matrices() -> None:
    nodes = [node("Transpose", "x", "s"), node("Transpose", "z", "t"), node("Gemm", "s t", "y")]
    model = model_of(nodes, (3, 5), {}, inputs={"z": (4, 3)})
    assert_becomes(model, RULE, {"Gemm": 1}, times=2)


def test_keeps_out_of_a_matrix_multiplied_by_itself_which_would_still_need_the_transpose() -> None:
    model = model_of([node("Transpose", "x", "t"), node("Gemm", "t t", "y")], (4, 4), {})
    assert_kept(model, RULE, "the result of Transpose is an operand too")


@pytest.mark.parametrize(("opset", "dtype"), [(7, TensorProto.FLOAT), (13, TensorProto.DOUBLE)])
def test_fires_in_any_opset_and_dtype(opset: int, dtype: int) -> None:
    nodes = [node("Transpose", "x", "t"), node("Gemm", "t w c", "y")]
    model = model_of(nodes, (4, "rows"), {"w": normal(4, 6), "c": normal(6)}, opset=opset, dtype=dtype)
    assert_becomes(model, RULE, {"Gemm": 1})


def test_keeps_out_of_a_transpose_that_does_nothing() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 1]), node("Gemm", "t w", "y")]
    assert_kept(model_of(nodes, (3, 4), {"w": normal(4, 6)}), RULE, "the matrix stays as it is")


def test_keeps_out_of_a_transpose_with_other_users() -> None:
    nodes = [node("Transpose", "x", "t"), node("Gemm", "t w", "y"), node("Neg", "t", "z")]
    model = model_of(nodes, (4, 3), {"w": normal(4, 6)}, outputs=["y", "z"])
    assert_kept(model, RULE, "the result of Transpose has other users")


def test_keeps_out_of_the_bias() -> None:
    nodes = [node("Transpose", "x", "t"), node("Gemm", "v w t", "y")]
    assert_kept(model_of(nodes, (6, 3), {"v": normal(3, 4), "w": normal(4, 6)}), RULE)
