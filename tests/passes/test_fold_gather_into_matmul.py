"""fold_gather_into_matmul: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite
from tests.passes.chains import Dims
from tests.passes.fusions import assert_stays

RULE = "fold_gather_into_matmul"
RNG = np.random.default_rng(5)
OTHERS = "others use the product"
W, B = (RNG.normal(size=shape).astype(np.float32) for shape in ((6, 24), (24,)))


def packed(
    *,
    dims: Dims = ("batch", 5, 6),
    target: Sequence[int] = (-1, 5, 3, 8),
    axis: int = 2,
    indices: Sequence[int | Sequence[int]] = (0, 1, 2),
    product: str = "MatMul",
    b: np.ndarray | None = B,
    extra: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = (),
    overridable: Sequence[str] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """A product of 24 columns, taken apart by a Reshape, of which Gathers pick."""
    w = W.T.copy() if attributes.get("transB") else W
    weights = {"w": w, "target": np.array(target), **({} if b is None else {"b": b})}
    if product == "Gemm":
        nodes = [node("Gemm", "x w" if b is None else "x w b", "s", **attributes)]
    else:
        nodes = [node("MatMul", "x w", "s" if b is None else "p")]
        nodes += [] if b is None else [node("Add", "p b", "s")]
    nodes.append(node("Reshape", "s target", "r"))
    for number, index in enumerate(indices):
        weights[f"i{number}"] = np.array(index)
        nodes.append(node("Gather", f"r i{number}", f"y{number}", axis=axis))
    names = [f"y{number}" for number in range(len(indices))]
    return make_model([*nodes, *extra], {"x": dims}, [*names, *outputs], weights, overridable=overridable)


def assert_fires(model: onnx.ModelProto, ops: dict[str, int], *, times: int = 3, **sizes: int) -> None:
    after = rewrite(model, RULE, "eliminate_noop_reshape", "remove_unused_initializers")
    assert after.fired[RULE] == times
    assert after.ops == ops
    assert_same_answers(model, after.model, random_feeds(model, **sizes))
    assert sum(_matrix_sizes(after.model)) == times * 6 * 8 <= sum(_matrix_sizes(model))


def _matrix_sizes(model: onnx.ModelProto) -> list[int]:
    return [int(np.prod(each.dims)) for each in model.graph.initializer if len(each.dims) == 2]


def test_fires() -> None:
    assert_fires(packed(), {"MatMul": 3, "Add": 3})
    assert_fires(packed(b=None), {"MatMul": 3})


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_fires_on_any_batch(batch: int) -> None:
    assert_fires(packed(), {"MatMul": 3, "Add": 3}, batch=batch)


@pytest.mark.parametrize(
    ("target", "axis"),
    [((-1, 5, 3, 8), -2), ((-1, 5, 3, 2, 4), 2), ((-1, 5, 8, 3), 3), ((-1, 5, 2, 3, 4), 3), ((-1, 3, 8), 1)],
    ids=str,
)
def test_fires_wherever_the_columns_are(target: tuple[int, ...], axis: int) -> None:
    model = packed(target=target, axis=axis)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 3}
    assert after.ops == {"MatMul": 3, "Add": 3, "Reshape": 3}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 2.0, "beta": 0.5}])
def test_fires_behind_a_gemm(attributes: dict[str, Any]) -> None:
    model = packed(dims=("rows", 6), target=(-1, 3, 8), axis=1, product="Gemm", **attributes)
    assert_fires(model, {"Gemm": 3})
    assert_fires(
        packed(dims=("rows", 6), target=(-1, 3, 8), axis=1, product="Gemm", b=None, **attributes), {"Gemm": 3}
    )


def test_fires_on_some_of_the_columns_and_negative_indices() -> None:
    assert_fires(packed(indices=(2, -3)), {"MatMul": 2, "Add": 2}, times=2)


def test_keeps_out_where_something_else_uses_the_product() -> None:
    for name in ("p", "s", "r"):
        assert_stays(packed(outputs=[name]), RULE, OTHERS)
        assert_stays(packed(extra=[node("Relu", name, "z")], outputs=["z"]), RULE, OTHERS)


def test_keeps_out_of_columns_that_are_computed_twice() -> None:
    assert_stays(packed(indices=(0, 1, 1)), RULE, OTHERS)


def test_keeps_out_where_two_axes_are_picked_from() -> None:
    model = packed(extra=[node("Gather", "r i0", "z", axis=3)], outputs=["z"])
    assert_stays(model, RULE, OTHERS)


@pytest.mark.parametrize("index", [[0], [0, 1]])
def test_keeps_out_of_lists_of_indices(index: list[int]) -> None:
    assert_stays(packed(indices=[index]), RULE, "the columns are not known to be taken apart")


def test_keeps_out_of_a_gather_of_rows() -> None:
    for axis in (0, 1):
        model = packed(dims=(3, 5, 6), target=(3, 5, 3, 8), axis=axis, indices=(0, 1))
        assert_stays(model, RULE, "the columns are not known to be taken apart")


def test_keeps_out_of_a_result_of_unknown_dims() -> None:
    model = packed(dims=("batch", "positions", 6), target=(0, 0, 3, 8))
    assert_stays(model, RULE, "the result's dims are unknown")


def test_keeps_out_of_other_biases() -> None:
    for b in (B[:1], RNG.normal(size=(5, 24)).astype(np.float32)):
        assert_stays(packed(b=b), RULE, "the bias is not one number for each column")


def test_keeps_out_of_weights_that_others_use() -> None:
    model = packed(extra=[node("MatMul", "x w", "z")], outputs=["z"])
    assert_stays(model, RULE, "the weights are no matrix of this product alone")


@pytest.mark.parametrize("name", ["w", "b", "i0"])
def test_keeps_out_of_what_may_come_with_a_run(name: str) -> None:
    assert_stays(packed(overridable=[name]), RULE, OTHERS if name == "i0" else "")
