"""merge_transposes: what it keeps out of and why, then what fires."""

from __future__ import annotations

import pytest
from onnx import NodeProto, TensorProto

from tests.helpers import assert_same_answers, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_transposes"
DIMS = ("n", 3, 4, 5)


def pair(first: list[int] | None, second: list[int] | None) -> list[NodeProto]:
    attributes = [{} if perm is None else {"perm": perm} for perm in (first, second)]
    return [node("Transpose", "x", "t", **attributes[0]), node("Transpose", "t", "y", **attributes[1])]


@pytest.mark.parametrize(
    ("first", "second"),
    [([0, 2, 3, 1], [0, 2, 1, 3]), ([3, 1, 0, 2], [1, 2, 3, 0]), (None, [1, 0, 2, 3]), ([1, 0, 2, 3], None)],
)
def test_fires(first: list[int] | None, second: list[int] | None) -> None:
    assert_merges(RULE, chain(pair(first, second), DIMS), {"Transpose": 1})


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_fires_for_other_dtypes(dtype: int) -> None:
    assert_merges(RULE, chain(pair([0, 2, 3, 1], [0, 2, 1, 3]), DIMS, dtype=dtype), {"Transpose": 1})


def test_a_pair_that_cancels_goes_though_others_use_the_first() -> None:
    model = chain(
        [*pair([0, 2, 3, 1], [0, 3, 1, 2]), node("Relu", "t", "other")], DIMS, outputs=["out", "other"]
    )
    after = rewrite(model, RULE, "eliminate_noop_transpose")
    assert after.fired == {RULE: 1, "eliminate_noop_transpose": 1}
    assert after.ops["Transpose"] == 1
    assert_same_answers(model, after.model)


def test_between_input_and_output_one_is_left() -> None:
    model = chain(pair([1, 0], [1, 0]), [2, 3])
    after = rewrite(model, RULE, "eliminate_noop_transpose", "eliminate_identity")
    assert sum(after.ops.values()) == 1
    assert_same_answers(model, after.model)


def test_keeps_what_others_use() -> None:
    model = chain(
        [*pair([0, 2, 3, 1], [0, 2, 1, 3]), node("Relu", "t", "other")], DIMS, outputs=["out", "other"]
    )
    assert_stays(RULE, model, "the result of Transpose has other users")


def test_keeps_a_graph_output() -> None:
    model = chain(pair([0, 2, 3, 1], [0, 2, 1, 3]), DIMS, outputs=["out", "t"])
    assert_stays(RULE, model, "the result of Transpose has other users")
