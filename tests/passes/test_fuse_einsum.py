"""fuse_einsum: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import pytest
from onnx import TensorProto, helper

from tests.passes.chains import Dims, assert_merges, assert_stays, chain

RULE = "fuse_einsum"
NO_OPERATOR, UNKNOWN = "it is no single operator", "the equation or its dtype is unknown"


def einsum(equation: str, *dims: Dims, opset: int = 17, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    names = ["x", "v", "w"][: len(dims)]
    nodes = [helper.make_node("Einsum", names, ["y"], equation=equation)]
    others = dict(zip(names[1:], dims[1:], strict=True))
    return chain(nodes, dims[0], opset=opset, dtype=dtype, others=others)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.INT32])
@pytest.mark.parametrize(
    ("equation", "dims", "left"),
    [
        ("bhij,bhjd->bhid", ((2, 3, 4, 5), (2, 3, 5, 6)), {"MatMul": 1}),
        ("bhid,bhjd->bhij", ((2, 3, 4, 5), (2, 3, 6, 5)), {"MatMul": 1, "Transpose": 1}),
        ("bhij , bjhd -> bhid", ((2, 3, 4, 5), (2, 5, 3, 6)), {"MatMul": 1, "Transpose": 1}),
        ("bqhd,bkhd->bhqk", ((2, 4, 3, 5), (2, 6, 3, 5)), {"MatMul": 1, "Transpose": 2}),
        ("bij,bkj->bki", ((2, 3, 4), (2, 5, 4)), {"MatMul": 1, "Transpose": 1}),
        ("bjk,bij->bik", ((2, 3, 4), (2, 5, 3)), {"MatMul": 1}),
        ("bsk,kn->bsn", ((2, 3, 4), (4, 5)), {"MatMul": 1}),
        ("bsk,nk->bsn", ((2, 3, 4), (5, 4)), {"MatMul": 1, "Transpose": 1}),
        ("...k,kn->...n", ((2, 3, 4), (4, 5)), {"MatMul": 1}),
        ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5)), {"MatMul": 1}),
        ("ij,ij->ij", ((3, 4), (3, 4)), {"Mul": 1}),
        ("c,bsc->bsc", ((4,), (2, 3, 4)), {"Mul": 1}),
        ("ij->ji", ((3, 4),), {"Transpose": 1}),
        ("bijk->bkij", ((2, 3, 4, 5),), {"Transpose": 1}),
        ("ijk->ik", ((3, 4, 5),), {"ReduceSum": 1}),
        ("ijk->i", ((3, 4, 5),), {"ReduceSum": 1}),
    ],
)
def test_fires(equation: str, dims: Sequence[Dims], left: Mapping[str, int], dtype: int) -> None:
    assert_merges(RULE, einsum(equation, *dims, dtype=dtype), left)


def test_fires_on_symbols_that_are_the_same() -> None:
    assert_merges(RULE, einsum("bij,bjk->bik", ("b", 4, "s"), ("b", "s", 5)), {"MatMul": 1})


def test_fires_on_attributes() -> None:
    assert_merges(RULE, einsum("ijk->ij", (3, 4, 5), opset=12), {"ReduceSum": 1})


@pytest.mark.parametrize(
    ("equation", "dims", "reason"),
    [
        ("bij,bjk->bik", (("b", 4, "s"), ("b", "t", 5)), NO_OPERATOR),
        ("ijk,jkl->il", ((2, 3, 4), (3, 4, 5)), NO_OPERATOR),
        ("ij,jk->k", ((2, 3), (3, 4)), NO_OPERATOR),
        ("i,j->ij", ((2,), (3,)), NO_OPERATOR),
        ("bi,bi->b", ((2, 3), (2, 3)), NO_OPERATOR),
        ("ijk->jk", ((3, 4, 5),), NO_OPERATOR),
        ("ijk->ki", ((3, 4, 5),), NO_OPERATOR),
        ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5)), NO_OPERATOR),
        ("ii->i", ((3, 3),), UNKNOWN),
        ("ij,jk", ((2, 3), (3, 4)), UNKNOWN),
    ],
)
def test_keeps(equation: str, dims: Sequence[Dims], reason: str) -> None:
    assert_stays(RULE, einsum(equation, *dims), reason)


def test_keeps_unsigned_integers() -> None:
    assert_stays(RULE, einsum("ij->ji", (2, 3), dtype=TensorProto.UINT32), UNKNOWN)
