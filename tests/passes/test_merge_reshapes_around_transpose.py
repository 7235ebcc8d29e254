"""merge_reshapes_around_transpose: what becomes one Transpose or one Reshape, and what is taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite
from tests.passes.chains import chain, ints

RULE = "merge_reshapes_around_transpose"
Dims = Sequence[int | str | None]


def sandwich(
    dims: Dims, first: Sequence[int], perm: Sequence[int], second: Sequence[int], *, opset: int = 17
) -> onnx.ModelProto:
    """x: dims ─ Relu ─ Reshape(first) ─ Transpose(perm) ─ Reshape(second) ─ y."""
    nodes = [
        node("Relu", "x", "r"),
        node("Reshape", "r first", "a"),
        node("Transpose", "a", "b", perm=perm),
        node("Reshape", "b second", "y"),
    ]
    targets = {"first": np.array(first), "second": np.array(second)}
    return make_model(nodes, {"x": dims}, ["y"], targets, opset=opset)


# dims, first target, perm, second target, what is left
MERGED: dict[str, tuple[Dims, list[int], list[int], list[int], dict[str, int]]] = {
    "heads": (["b", 4, 9, 8], [-1, 9, 8], [0, 2, 1], [-1, 4, 8, 9], {"Transpose": 1}),
    "space": ([2, 5, 6, 3], [2, 30, 3], [0, 2, 1], [2, 3, 5, 6], {"Transpose": 1}),
    "space, merged": ([2, 3, 30], [2, 3, 5, 6], [0, 2, 3, 1], [2, 30, 3], {"Transpose": 1}),
    "only 1s move": ([2, 3, 4], [2, 3, 1, 4], [0, 2, 1, 3], [6, 4], {"Reshape": 1}),
    "nothing moves": (["b", 12], [-1, 12, 1], [0, 2, 1], [-1, 12], {}),
    "another Reshape": ([2, 3, 20], [2, 3, 4, 5], [0, 1, 3, 2], [6, 5, 4], {"Reshape": 1, "Transpose": 1}),
}
APART: dict[str, tuple[Dims, list[int], list[int], list[int]]] = {
    "shuffled channels": ([2, 12, 5], [2, 3, 4, 5], [0, 2, 1, 3], [2, 12, 5]),
    "windows": ([1, 8, 8, 3], [1, 2, 4, 2, 4, 3], [0, 1, 3, 2, 4, 5], [4, 4, 4, 3]),
    "unknown dims": (["b", "s", 12], [0, 0, 3, 4], [0, 2, 1, 3], [0, 0, -1]),
}


@pytest.mark.parametrize("case", MERGED)
def test_merges(case: str) -> None:
    *parts, left = MERGED[case]
    model = sandwich(*parts)  # type: ignore[arg-type]
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Relu": 1, **left}
    assert_same_answers(model, after.model, random_feeds(model, b=3))


@pytest.mark.parametrize("case", APART)
def test_keeps_what_takes_axes_apart(case: str) -> None:
    model = sandwich(*APART[case])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert sum(after.declined[RULE].values()) == 1


def test_several_unknown_dims_need_no_target_if_the_reshapes_undo_each_other() -> None:
    nodes = [
        node("Shape", "x", "dims"),
        node("Slice", "dims from two", "lead"),
        node("Slice", "dims two four", "tail"),
        node("Concat", "minus tail", "first", axis=0),
        node("Reshape", "x first", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1]),
        node("Slice", "dims two three", "s"),
        node("Slice", "dims three four", "d"),
        node("Concat", "lead d s", "second", axis=0),
        node("Reshape", "b second", "y"),
    ]
    numbers = {"from": 0, "two": 2, "three": 3, "four": 4, "minus": -1}
    constants = {name: np.array([number]) for name, number in numbers.items()}
    model = make_model(nodes, {"x": ["b", 4, "s", 8]}, ["y"], constants)
    after = rewrite(model, RULE)
    assert after.ops == {"Transpose": 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2, s=5))


def test_the_first_reshape_may_have_other_users_but_not_the_transpose() -> None:
    model = sandwich(*MERGED["heads"][:4])
    for name, fires in (("a", True), ("b", False)):
        shared = onnx.ModelProto()
        shared.CopyFrom(model)
        shared.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, ["p", "q", "r"]))
        after = rewrite(shared, RULE)
        assert after.fired == ({RULE: 1} if fires else {})
        assert_same_answers(shared, after.model)


def test_without_perm_all_axes_are_reversed() -> None:
    model = sandwich([4, 6], [4, 2, 3], [2, 1, 0], [6, 4])
    model.graph.node[2].ClearField("attribute")
    assert rewrite(model, RULE).fired == {}
    model = sandwich([2, 3, 4], [6, 4], [1, 0], [4, 2, 3])
    model.graph.node[2].ClearField("attribute")
    after = rewrite(model, RULE)
    assert after.ops == {"Relu": 1, "Transpose": 1}
    assert_same_answers(model, after.model)


def test_opset_5() -> None:
    model = sandwich(*MERGED["space"][:4], opset=7)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_fires_on_dims_that_only_symbols_tell() -> None:
    """So PyTorch's exporter turns the keys of scaled_dot_product_attention."""
    nodes = [
        node("Shape", "x", "count", start=2, end=3),
        node("Squeeze", "count", "scalar"),
        node("Range", "zero scalar one", "range"),
        node("Unsqueeze", "range last", "column"),
        node("Cast", "column", "positions", to=onnx.TensorProto.FLOAT),
        node("Mul", "x positions", "keys"),
        node("Shape", "keys", "dims"),
        node("Slice", "dims first second", "rows"),
        node("Slice", "dims second last", "n"),
        node("Slice", "dims last end", "size"),
        node("Concat", "last n size", "flat_dims", axis=0),
        node("Reshape", "keys flat_dims", "flat"),
        node("Transpose", "flat", "turned", perm=[0, 2, 1]),
        node("Concat", "rows size n", "turned_dims", axis=0),
        node("Reshape", "turned turned_dims", "y"),
    ]
    bounds = ints(first=[-(2**63)], second=[-2], last=[-1], end=[2**63 - 1])
    bounds |= {"zero": np.array(0), "one": np.array(1)}
    model = chain(nodes, ["b", 4, "n", 8], bounds, opset=21)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops["Transpose"] == 1 and "Reshape" not in after.ops
    feeds = {"in": np.random.default_rng(0).normal(size=(2, 4, 5, 8)).astype(np.float32)}
    assert_same_answers(model, after.model, feeds)
