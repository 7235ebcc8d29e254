"""merge_clips: every chain of two gives what it gave, NaN included, then what it keeps out of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, compose, helper

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_clips"
X = np.array([-np.inf, -9, -1, -0.5, -0.0, 0, 0.3, 1, 2, 9, np.inf, np.nan], np.float32)
Step = tuple[str, float | None, float | None]
STEPS: Sequence[Step] = (
    ("Relu", None, None),
    ("Clip", -1, 1),
    ("Clip", 0.25, None),
    ("Clip", None, 6),
    ("Clip", 2, -2),
    ("Max", 0.5, None),
    ("Min", None, 0.75),
)


def steps(
    *each: Step, opset: int = 17, dtype: int = TensorProto.FLOAT, size: int = X.size
) -> onnx.ModelProto:
    """The steps from x to y."""
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    nodes, weights, source = [], {}, "x"
    for index, (op, low, high) in enumerate(each):
        target = "y" if index == len(each) - 1 else f"t{index}"
        names = []
        for name, bound in ((f"l{index}", low), (f"h{index}", high)):
            names.append(name if bound is not None else "")
            if bound is not None:
                weights[name] = np.array(bound, numpy_dtype)
        if op == "Clip" and opset < 11:
            bounds = {key: float(b) for key, b in (("min", low), ("max", high)) if b is not None}
            nodes.append(node(op, source, target, **bounds))
            weights = {}
        else:
            inputs = [source, *names] if op == "Clip" else [source, *filter(None, names)]
            nodes.append(helper.make_node(op, inputs, [target]))
        source = target
    return chain(nodes, [size], weights, opset=opset, dtype=dtype)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_every_pair(dtype: int) -> None:
    pairs = [pair for pair in itertools.product(STEPS, STEPS) if {op for op, _, _ in pair} != {"Relu"}]
    assert_all_merge(pairs, X, dtype)


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT8, TensorProto.INT64, TensorProto.UINT8])
def test_integers(dtype: int) -> None:
    each: Sequence[Step] = (
        ("Clip", 2, 5),
        ("Clip", None, 4),
        ("Max", 3, None),
        ("Min", None, 6),
        ("Clip", 7, 1),
    )
    assert_all_merge(list(itertools.product(each, each)), np.arange(12), dtype)


def assert_all_merge(pairs: Sequence[tuple[Step, Step]], x: np.ndarray, dtype: int) -> None:
    """Assert that each pair becomes one node and gives what it gave, all of them in one model."""
    joint = onnx.ModelProto()
    for index, pair in enumerate(pairs):
        part = compose.add_prefix(steps(*pair, dtype=dtype, size=x.size), f"p{index}_")
        joint = compose.merge_models(joint, part, []) if index else part
    after = rewrite(joint, RULE)
    assert after.fired == {RULE: len(pairs)}
    assert sum(after.ops.values()) == 3 * len(pairs)
    x = x.astype(helper.tensor_dtype_to_np_dtype(dtype))
    assert_same_answers(joint, after.model, {value.name: x for value in joint.graph.input}, rtol=0)


def test_attributes() -> None:
    model = steps(("Clip", -1, 3), ("Relu", None, None), ("Clip", None, 2), opset=10)
    assert_merges(RULE, model, {"Clip": 1}, feeds={"in": X}, times=2, rtol=0)


def test_half_precision() -> None:
    model = steps(("Relu", None, None), ("Clip", None, 6), dtype=TensorProto.FLOAT16)
    assert_merges(RULE, model, {"Clip": 1}, feeds={"in": X.astype(np.float16)}, rtol=0)


def test_commuted() -> None:
    model = chain([node("Max", "l x", "t"), node("Min", "h t", "y")], [12], {"l": X[3], "h": X[8]})
    assert_merges(RULE, model, {"Clip": 1}, feeds={"in": X}, rtol=0)


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        pytest.param(f32([1, 2, 3]), "a bound is no known number", id="a tensor"),
        pytest.param(f32([[1]]), "a bound is no known number", id="raises the rank"),
        pytest.param(f32(np.nan), "a bound is no known number", id="NaN"),
    ],
)
def test_keeps(bound: np.ndarray, reason: str) -> None:
    model = chain([node("Relu", "x", "t"), node("Min", "t h", "y")], [3], {"h": bound})
    assert_stays(RULE, model, reason)


def test_keeps_dtypes_without_a_clip() -> None:
    model = chain(
        [node("Max", "x l", "t"), node("Min", "t h", "y")],
        [3],
        {"l": np.array(0, np.float16), "h": np.array(6, np.float16)},
        dtype=TensorProto.FLOAT16,
    )
    assert_stays(RULE, model, "there is no Clip for this dtype")


def test_keeps_infinite_bounds_that_attributes_cannot_say() -> None:
    nodes = [node("Relu", "x", "t"), node("Max", "t l", "y")]
    assert_stays(RULE, chain(nodes, [3], {"l": f32(1)}, opset=10), "a bound is no known number")


def test_keeps_what_others_use() -> None:
    nodes = [node("Relu", "x", "t"), node("Min", "t h", "y")]
    model = chain(nodes, [3], {"h": f32(6)}, outputs=["out", "t"])
    assert_stays(RULE, model, "the result of Relu is a graph output")


def test_keeps_a_bound_that_the_caller_may_override() -> None:
    nodes = [node("Relu", "x", "t"), node("Min", "t h", "y")]
    assert_stays(RULE, chain(nodes, [3], {"h": f32(6)}, overridable=["h"]), "")
