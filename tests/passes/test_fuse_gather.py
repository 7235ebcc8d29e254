"""fuse_gather: rolls, windows, merged patches and random moves, then what it keeps out of."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.helpers import assert_same_answers, node, rewrite
from tests.passes.chains import Weights, assert_merges, assert_stays, chain, ints
from tests.passes.folds import flags, in_branches

RULE = "fuse_gather"
BIG = 2**63 - 1
C = 32


def roll(axis: int, *, opset: int = 17, dims: tuple[int | str, ...] = ("n", 6, 4, C)) -> onnx.ModelProto:
    """Two pieces of x, exchanged."""
    nodes, weights = rolled("x", "y", axis, [1, int(dims[axis]) - 1], opset)
    return chain(nodes, dims, weights, opset=opset)


def rolled(
    x: str, y: str, axis: int, sizes: list[int], opset: int = 17
) -> tuple[list[onnx.NodeProto], Weights]:
    names = [f"{y}{index}" for index in range(len(sizes))]
    outputs, joined = " ".join(names), " ".join(reversed(names))
    concat = node("Concat", joined, y, axis=axis)
    if opset < 13:
        return [node("Split", x, outputs, axis=axis, split=sizes), concat], {}
    return [node("Split", f"{x} {y}sizes", outputs, axis=axis), concat], ints(**{f"{y}sizes": sizes})


@pytest.mark.parametrize(
    ("axis", "opset"), [(1, 7), (2, 7), (1, 11), (-2, 11), (2, 13), (-2, 13), (1, 18), (2, 18)]
)
def test_gathers_a_roll(axis: int, opset: int) -> None:
    assert_merges(RULE, roll(axis, opset=opset), {"Gather": 1})


def test_gathers_whole_rows_where_they_stay_together() -> None:
    after = assert_merges(RULE, roll(1), {"Gather": 1})
    (gather,) = [each for each in after.model.graph.node if each.op_type == "Gather"]
    (indices,) = [each for each in after.model.graph.initializer if each.name == gather.input[1]]
    assert numpy_helper.to_array(indices).tolist() == [1, 2, 3, 4, 5, 0]


def shifted_windows(**shape: int) -> tuple[list[onnx.NodeProto], Weights]:
    """Rows as an image of 6 by 4, rolled both ways, in windows of 3 by 2, as rows."""
    first, one = rolled("a", "b", 1, [1, 5])
    second, two = rolled("b", "c", 2, [3, 1])
    nodes = [
        node("Reshape", "x image", "a"),
        *first,
        *second,
        node("Reshape", "c windows", "d", **shape),
        node("Transpose", "d", "e", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "e rows", "y"),
    ]
    weights = ints(image=[-1, 6, 4, C], windows=[-1, 2, 3, 2, 2, C], rows=[-1, C])
    return nodes, {**weights, **one, **two}


def test_gathers_shifted_windows() -> None:
    nodes, weights = shifted_windows()
    model = chain(nodes, ["n", C], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 2, "Reshape": 2, "Gather": 1}
    feeds = {"in": np.random.default_rng(0).normal(size=(48, C)).astype(np.float32)}
    assert_same_answers(model, after.model, feeds)
    assert_same_answers(model, after.model, {"in": feeds["in"][:0]})
    assert rewrite(after.model, RULE).fired == {}


def test_gathers_merged_patches() -> None:
    nodes, weights = [], ints(big=[BIG, BIG], axes=[1, 2], two=[2, 2])
    for index, start in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        weights |= ints(**{f"s{index}": start})
        nodes.append(node("Slice", f"x s{index} big axes two", f"p{index}"))
    nodes.append(node("Concat", "p0 p1 p2 p3", "y", axis=-1))
    assert_merges(RULE, chain(nodes, ["n", 6, 4, C], weights), {"Reshape": 2, "Gather": 1})


def test_gathers_what_drops_and_repeats_pieces() -> None:
    nodes = [
        node("Split", "x sizes", "a b c", axis=1),
        node("Slice", "a start end axis", "d"),
        node("Concat", "c d c", "y", axis=1),
    ]
    weights = ints(sizes=[2, 1, 3], start=[1], end=[2], axis=[1])
    assert_merges(RULE, chain(nodes, ["n", 6, C], weights), {"Gather": 1})


@pytest.mark.parametrize(
    ("dtype", "size"), [(TensorProto.FLOAT16, 64), (TensorProto.DOUBLE, 16), (TensorProto.INT32, 32)]
)
def test_moves_any_type(dtype: int, size: int) -> None:
    nodes, weights = rolled("x", "y", 1, [1, 3])
    assert_merges(RULE, chain(nodes, ["n", 4, size], weights, dtype=dtype), {"Gather": 1})
    assert_stays(RULE, chain(nodes, ["n", 4, size // 2], weights, dtype=dtype), "")


def test_gathers_a_graph_output() -> None:
    nodes, weights = rolled("x", "y", 1, [1, 3])
    model = chain(nodes, ["n", 4, C], weights, outputs=["out", "y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_gathers_in_bodies() -> None:
    inner = roll(1)
    inner.graph.input[0].name = "x"
    del inner.graph.node[0], inner.graph.node[-1]
    inner.graph.output[0].name = "y"
    model = in_branches(inner)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in flags(model):
        assert_same_answers(model, after.model, feeds)


def test_leaves_what_others_use() -> None:
    nodes, weights = rolled("x", "y", 1, [1, 3])
    model = chain(nodes, ["n", 4, C], weights, outputs=["out", nodes[0].output[1]])
    assert_stays(RULE, model, "")


def test_stops_at_what_others_use() -> None:
    nodes, weights = shifted_windows()
    nodes.append(node("Neg", "a", "z"))
    model = chain(nodes, ["n", C], weights, outputs=["out", "z"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 2, "Neg": 1, "Reshape": 3, "Gather": 1}
    assert_same_answers(model, after.model, {"in": np.ones((48, C), np.float32)})


@pytest.mark.parametrize(
    ("dims", "axis"),
    [
        pytest.param([6, 4, C], 0, id="the first axis"),
        pytest.param(["n", 4, C], 2, id="the last axis"),
        pytest.param(["n", 4, "m", C], 1, id="a dim is unknown"),
        pytest.param(["n", 4, 8, 2], 2, id="the runs are short"),
    ],
)
def test_keeps(dims: list[int | str], axis: int) -> None:
    nodes, weights = rolled(
        "x", "y", axis, [1, 5 if axis == 0 else C - 1 if dims[axis] == C else int(dims[axis]) - 1]
    )
    assert_stays(RULE, chain(nodes, dims, weights), "")


def test_keeps_what_joins_two_values() -> None:
    nodes = [node("Neg", "x", "z"), node("Concat", "x z", "y", axis=1)]
    assert_stays(RULE, chain(nodes, ["n", 4, C]), "")


def test_keeps_what_joins_nothing() -> None:
    nodes = [
        node("Reshape", "x a", "p"),
        node("Transpose", "p", "q", perm=[0, 2, 1, 3]),
        node("Reshape", "q b", "y"),
    ]
    assert_stays(RULE, chain(nodes, ["n", 24, C], ints(a=[0, 6, 4, C], b=[0, 24, C])), "")


def test_keeps_transposes_that_move_the_last_axis() -> None:
    nodes, weights = rolled("x", "z", 1, [1, 3])
    model = chain([*nodes, node("Transpose", "z", "y", perm=[0, 2, 1])], ["n", 4, C], weights)
    assert_merges(RULE, model, {"Gather": 1, "Transpose": 1})


@pytest.mark.parametrize("seed", range(40))
def test_random_moves(seed: int) -> None:
    """Each step cuts, joins, reshapes or transposes; the batch is the least that the Reshapes let through."""
    rng = random.Random(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    shape, name = [12, 4, 6, C], "x"
    for step in range(rng.randint(2, 6)):
        result = f"v{step}"
        kind = rng.choice(["roll", "roll", "drop", "reshape", "transpose"])
        axis = rng.randrange(1, len(shape) - 1) if len(shape) > 2 else 0
        if kind == "reshape":
            factors = rng.choice(
                [[12, 24], [12, 2, 12], [12, 4, 6], [12, 2, 2, 6], [48, 6], [24, 12], [12, 3, 8]]
            )
            if np.prod(factors) * C != np.prod(shape):
                continue
            shape = [*factors, C]
            weights |= ints(**{f"t{step}": [-1, *shape[1:]]})
            nodes.append(node("Reshape", f"{name} t{step}", result))
        elif axis == 0 or shape[axis] < 2:
            continue
        elif kind == "transpose":
            inner = list(range(1, len(shape) - 1))
            rng.shuffle(inner)
            perm = [0, *inner, len(shape) - 1]
            shape = [shape[each] for each in perm]
            nodes.append(node("Transpose", name, result, perm=perm))
        else:
            cut = rng.randrange(1, shape[axis])
            weights |= ints(**{f"s{step}": [cut, shape[axis] - cut]})
            nodes.append(node("Split", f"{name} s{step}", f"a{step} b{step}", axis=axis))
            pieces = (
                rng.choice([f"b{step} a{step} b{step}", f"b{step}"]) if kind == "drop" else f"b{step} a{step}"
            )
            nodes.append(node("Concat", pieces, result, axis=axis))
            shape[axis] = sum({"a": cut, "b": shape[axis] - cut}[piece[0]] for piece in pieces.split())
        name = result
    nodes.append(node("Identity", name, "y"))
    model = chain(nodes, ["n", 4, 6, C], weights)
    after = rewrite(model, RULE)
    for batch in (12, 24):
        feeds = {"in": np.random.default_rng(seed).normal(size=(batch, 4, 6, C)).astype(np.float32)}
        assert_same_answers(model, after.model, feeds, rtol=0)
    assert len(after.model.graph.node) <= len(model.graph.node) - len(after.fired)
    assert rewrite(after.model, RULE).fired == {}
