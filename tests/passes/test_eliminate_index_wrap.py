"""eliminate_index_wrap: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes.chains import Dims, assert_merges, chain
from tests.passes.fusions import assert_stays

RULE = "eliminate_index_wrap"
TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
OTHERS = "other numbers than 0 and the size of the axis"


def wrapped(
    *,
    dims: Dims = ("batch", 4),
    n: npt.ArrayLike = 5,
    zero: int = 0,
    cast: int | None = None,
    dtype: int = TensorProto.INT32,
    opset: int = 17,
    overridable: Sequence[str] = (),
    outputs: Sequence[str] = ("out",),
    **axis: int,
) -> onnx.ModelProto:
    """Gather(table, Where(x < 0, x + n, x)), the sign seen by way of a Cast if there is one."""
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    sign_dtype = numpy_dtype if cast is None else onnx.helper.tensor_dtype_to_np_dtype(cast)
    nodes = [
        *([] if cast is None else [node("Cast", "x", "sign", to=cast)]),
        node("Less", "x zero" if cast is None else "sign zero", "c"),
        node("Add", "x n", "end"),
        node("Where", "c end x", "i"),
        node("Gather", "table i", "y", **axis),
    ]
    weights = {"table": TABLE, "n": np.array(n, numpy_dtype), "zero": np.array(zero, sign_dtype)}
    return chain(nodes, dims, weights, dtype=dtype, opset=opset, overridable=overridable, outputs=outputs)


def feeds(n: int = 5, dtype: type = np.int32) -> dict[str, np.ndarray]:
    """Every index that Gather takes."""
    return {"in": np.resize(np.arange(-n, n), (3, 4)).astype(dtype)}


@pytest.mark.parametrize("cast", [None, TensorProto.FLOAT, TensorProto.INT64])
def test_fires(cast: int | None) -> None:
    assert_merges(RULE, wrapped(cast=cast), {"Gather": 1}, feeds=feeds())


def test_fires_on_64_bits() -> None:
    assert_merges(RULE, wrapped(dtype=TensorProto.INT64), {"Gather": 1}, feeds=feeds(dtype=np.int64))


def test_fires_along_another_axis() -> None:
    for axis in (1, -1):
        assert_merges(RULE, wrapped(n=[[3]], axis=axis), {"Gather": 1}, feeds=feeds(3))


def test_leaves_indices_that_others_use() -> None:
    model = wrapped(outputs=["out", "i"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 2, "Less": 1, "Add": 1, "Where": 1, "Gather": 1}
    assert_same_answers(model, after.model, feeds())


def test_refuses_what_onnx_refuses() -> None:
    after = rewrite(wrapped(), RULE)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        assert_same_answers(after.model, after.model, {"in": np.full((1, 4), -6, np.int32)})


@pytest.mark.parametrize("options", [{"n": 4}, {"zero": 1}, {"n": [5, 5, 5, 3]}, {"axis": 1}])
def test_keeps_out_of_other_numbers(options: dict[str, int]) -> None:
    assert_stays(wrapped(**options), RULE, OTHERS)  # type: ignore[arg-type]


def test_keeps_out_of_a_table_of_unknown_size() -> None:
    nodes = [
        node("Less", "x zero", "c"),
        node("Add", "x n", "end"),
        node("Where", "c end x", "i"),
        node("Gather", "table i", "y"),
    ]
    weights = {"n": np.array(5, np.int32), "zero": np.array(0, np.int32)}
    assert_stays(
        chain(nodes, [4], weights, dtype=TensorProto.INT32, others={"table": ["rows", 3]}), RULE, OTHERS
    )


def test_keeps_out_of_numbers_that_add_an_axis() -> None:
    reason = "the numbers may change the shape of the indices"
    assert_stays(wrapped(dims=[4], n=[[5]]), RULE, reason)


def test_keeps_out_of_a_cast_that_may_change_the_sign() -> None:
    model = wrapped(dtype=TensorProto.INT64, cast=TensorProto.INT32)
    assert_stays(model, RULE, "the comparison may see other signs")


def test_keeps_out_of_older_gathers() -> None:
    assert_stays(wrapped(opset=10), RULE, "Gather counts from the end since opset 11")


@pytest.mark.parametrize("name", ["n", "zero"])
def test_keeps_out_of_numbers_that_may_come_with_a_run(name: str) -> None:
    assert_stays(wrapped(overridable=[name]), RULE, "")


def test_keeps_out_of_another_value() -> None:
    nodes = [
        node("Less", "other zero", "c"),
        node("Add", "x n", "end"),
        node("Where", "c end x", "i"),
        node("Gather", "table i", "y"),
    ]
    weights = {"table": TABLE, "n": np.array(5, np.int32), "zero": np.array(0, np.int32)}
    assert_stays(chain(nodes, [4], weights, dtype=TensorProto.INT32, others={"other": [4]}), RULE, "")


def test_keras_embedding_is_one_gather() -> None:
    nodes = [
        node("Cast", "x", "float", to=TensorProto.FLOAT),
        node("Less", "float zero", "c"),
        node("Cast", "c", "yes", to=TensorProto.INT32),
        node("Add", "x n", "end"),
        node("Mul", "yes end", "a"),
        node("Not", "c", "not"),
        node("Cast", "not", "no", to=TensorProto.INT32),
        node("Mul", "x no", "b"),
        node("Add", "a b", "i"),
        node("Gather", "table i", "y"),
    ]
    weights = {"table": TABLE, "n": np.array(5, np.int32), "zero": f32(0)}
    model = chain(nodes, ["batch", 4], weights, dtype=TensorProto.INT32)
    after = rewrite(model, "fuse_where", RULE)
    assert after.ops == {"Identity": 2, "Gather": 1}
    assert_same_answers(model, after.model, feeds())
