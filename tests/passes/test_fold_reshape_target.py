"""fold_reshape_target: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.helpers import Rewritten, assert_same_answers, make_model, random_feeds, rewrite

RULE = "fold_reshape_target"
DIMS = ("a", "b", 4, 6)
SHAPE = helper.make_node("Shape", ["x"], ["shape"])
RESHAPE = helper.make_node("Reshape", ["x", "target"], ["y"], name="reshape")
BOUNDS = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "minus_one": np.array([-1])}
UNKNOWN = "too many dims are unknown"


def concat(*pieces: str) -> NodeProto:
    return helper.make_node("Concat", list(pieces), ["target"], axis=0)


def cut(source: str, start: str, end: str, piece: str = "piece") -> NodeProto:
    return helper.make_node("Slice", [source, start, end], [piece])


def cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=to)


def model_of(
    *nodes: NodeProto,
    weights: Mapping[str, Sequence[int]],
    outputs: Sequence[str] = ("y",),
    reshape: NodeProto = RESHAPE,
    dims: Sequence[int | str] = DIMS,
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    numbers = {name: np.array(values, dtype=np.int64) for name, values in weights.items()}
    kept = {name for node in nodes for name in node.input}
    constants = {name: data for name, data in {**BOUNDS, **numbers}.items() if name in kept}
    graph = [*nodes, reshape, helper.make_node("Size", ["y"], ["count"])]
    return make_model(graph, {"x": dims}, outputs, constants, opset=15, overridable=overridable)


def target_of(after: Rewritten) -> list[int]:
    tensors = {tensor.name: tensor for tensor in after.model.graph.initializer}
    (reshape,) = (node for node in after.model.graph.node if node.op_type == "Reshape")
    values: list[int] = numpy_helper.to_array(tensors[reshape.input[1]]).tolist()
    return values


def assert_kept(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {reason: 1}}


def test_keeps_a_dim_at_another_place_beside_a_copy() -> None:
    nodes = [SHAPE, cut("shape", "zero", "one"), cut("shape", "one", "two", "other")]
    # [a, 24, b]: the first is a copy, and an empty tensor would leave the last one open.
    assert_kept(model_of(*nodes, concat("piece", "rest", "other"), weights={"rest": [24]}), UNKNOWN)


def test_keeps_two_unknown_dims() -> None:
    nodes = [SHAPE, cut("shape", "one", "two", "b"), cut("shape", "zero", "one", "a")]
    assert_kept(model_of(*nodes, concat("b", "a", "rest"), weights={"rest": [24]}), UNKNOWN)


def test_keeps_an_unknown_dim_beside_an_open_one() -> None:
    nodes = [SHAPE, cut("shape", "one", "two", "b")]
    assert_kept(model_of(*nodes, concat("b", "rest"), weights={"rest": [-1, 4]}), UNKNOWN)


def test_keeps_a_piece_of_several_unknown_dims() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Slice", ["whole", "zeros", "ones"], ["corner"]),
        helper.make_node("Reshape", ["corner", "minus_one"], ["product"]),
        concat("product", "product"),
    ]
    weights = {"zeros": [0] * 4, "ones": [1] * 4}
    # a corner of the data is a list of one element of which nothing is known
    model = model_of(*nodes, weights=weights, outputs=["count"], dims=(1, 1, 4, 6))
    assert_kept(model, UNKNOWN)


@pytest.mark.parametrize(("rest", "target"), [([-1, 24], [0, 0, 24]), ([-1], [0, -1])])
def test_copies_with_allowzero_too(rest: list[int], target: list[int]) -> None:
    reshape = helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1)
    nodes = [SHAPE, cut("shape", "zero", "one"), concat("piece", "rest")]
    model = model_of(*nodes, weights={"rest": rest}, reshape=reshape)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert target_of(after) == target
    assert_same_answers(model, after.model, random_feeds(model, a=2, b=5))


def test_keeps_zeros_that_are_no_copies() -> None:
    reshape = helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1)
    nodes = [SHAPE, cut("shape", "one", "two"), concat("zero", "piece")]
    assert_kept(model_of(*nodes, weights={}, reshape=reshape, dims=(0, "b")), UNKNOWN)


def test_says_what_is_left_open_where_the_symbols_tell() -> None:
    """Split into heads, and back: the dims come from another tensor, and agree in symbols alone."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "i0"], ["b"]),
        helper.make_node("Gather", ["shape", "i1"], ["n"]),
        helper.make_node("Unsqueeze", ["b", "zero"], ["b1"]),
        helper.make_node("Unsqueeze", ["n", "zero"], ["n1"]),
        helper.make_node("Concat", ["b1", "n1", "minus_one", "two"], ["heads"], axis=0),
        helper.make_node("Reshape", ["h", "heads"], ["split"]),
        helper.make_node("Transpose", ["split"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[0, 2, 1, 3]),
        helper.make_node("Concat", ["b1", "n1", "minus_one"], ["joined"], axis=0),
        helper.make_node("Reshape", ["u", "joined"], ["y"]),
    ]
    weights = {
        "w": np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32),
        "i0": np.array(0), "i1": np.array(1), "zero": np.array([0]), "two": np.array([2]),
        "minus_one": np.array([-1]),
    }  # fmt: skip
    model = make_model(nodes, {"x": ["b", "n", 6]}, ["y"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    targets = [
        numpy_helper.to_array(tensor).tolist()
        for tensor in after.model.graph.initializer
        if tensor.dims in ([3], [4])
    ]
    assert sorted(targets) == [[0, 0, 4, 2], [0, 0, 8]]
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


def test_keeps_bounds_that_the_caller_may_override() -> None:
    nodes = [SHAPE, cut("shape", "zero", "start"), concat("piece", "rest")]
    weights = {"rest": [-1, 24], "start": [1]}
    model = model_of(*nodes, weights=weights, outputs=["count"], overridable=["start"])
    assert_kept(model, UNKNOWN)


@pytest.mark.parametrize(
    ("nodes", "weights", "target"),
    [
        pytest.param(
            [SHAPE, cut("shape", "zero", "two"), concat("piece", "rest")],
            {"rest": [-1]},
            [0, 0, 24],
            id="slice",
        ),
        pytest.param(
            [SHAPE, helper.make_node("Gather", ["shape", "one"], ["piece"]), concat("zero", "piece", "rest")],
            {"rest": [24]},
            [0, 0, 24],
            id="gather",
        ),
        pytest.param(
            [
                SHAPE,
                helper.make_node("Gather", ["shape", "scalar"], ["dim"]),
                helper.make_node("Unsqueeze", ["dim", "zero"], ["piece"]),
                concat("piece", "rest"),
            ],
            {"scalar": 0, "rest": [-1, 6]},
            [0, -1, 6],
            id="gather and unsqueeze",
        ),
        pytest.param(
            [
                helper.make_node("Shape", ["x"], ["piece"], start=0, end=-2),
                concat("piece", "rest"),
            ],
            {"rest": [24]},
            [0, 0, 24],
            id="shape with bounds",
        ),
        pytest.param(
            [
                SHAPE,
                cast("shape", "small", TensorProto.INT32),
                cut("small", "zero", "one", "dim"),
                cast("dim", "piece", TensorProto.INT64),
                concat("piece", "rest"),
            ],
            {"rest": [-1]},
            [0, -1],
            id="through casts",
        ),
        pytest.param(
            [SHAPE, cut("shape", "one", "two"), concat("piece", "rest")],
            {"rest": [6, 4]},
            [-1, 6, 4],
            id="another dim of x, left open",
        ),
    ],
)
def test_fires(nodes: Sequence[NodeProto], weights: Mapping[str, Sequence[int]], target: list[int]) -> None:
    model = model_of(*nodes, weights=weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Reshape": 1, "Size": 1}
    assert after.model.graph.node[0].name == "reshape"
    assert target_of(after) == target
    # The dim that is left open may be any, where the others agree with it.
    a, b = (1, 5) if target == [-1, 6, 4] else (2, 5)
    assert_same_answers(model, after.model, random_feeds(model, a=a, b=b))


@pytest.mark.parametrize("batch", [0, 2])
def test_copies_in_empty_tensors_too(batch: int) -> None:
    nodes = [SHAPE, cut("shape", "zero", "one"), concat("piece", "rest")]
    model = model_of(*nodes, weights={"rest": [24]}, dims=("a", 4, 6))
    after = rewrite(model, RULE)
    assert target_of(after) == [0, 24]
    feeds = {"x": np.random.default_rng(0).normal(size=(batch, 4, 6)).astype(np.float32)}
    assert_same_answers(model, after.model, feeds)


def test_leaves_the_target_to_its_other_users() -> None:
    nodes = [SHAPE, cut("shape", "zero", "two"), concat("piece", "rest")]
    model = model_of(*nodes, weights={"rest": [24]}, outputs=["y", "target"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Shape": 1, "Slice": 1, "Concat": 1, "Reshape": 1, "Size": 1}
    assert_same_answers(model, after.model)
