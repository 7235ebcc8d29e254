"""sink_squeezes: regions between Squeezes and Unsqueezes, and what keeps a region as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "sink_squeezes"
RNG = np.random.default_rng(0)
SIZE: Sequence[int | str] = ["batch", 4, 1, "length"]
WEIGHTS: dict[str, np.ndarray] = {
    "w": RNG.normal(size=(4, 4, 1, 3)).astype(np.float32),
    "v": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32),
    "bias": RNG.normal(size=(1, 4, 1)).astype(np.float32),
    "row": RNG.normal(size=(4, 1)).astype(np.float32),
    "two": np.array([2], np.int64),
    "one": np.array([1], np.int64),
    "three": np.array([3], np.int64),
    "pads": np.array([0, 0, 2, 0, 0, 1], np.int64),
    "low": np.array(-0.5, np.float32),
}
FIRST = [node("Conv", "x w", "c", pads=[0, 1, 0, 1]), node("Squeeze", "c two", "s")]
LAST = [node("Unsqueeze", "r two", "u"), node("Conv", "u v", "y")]


def model_of(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    used = {name for each in nodes for name in each.input}
    weights = {name: data for name, data in WEIGHTS.items() if name in used}
    return make_model(list(nodes), {"x": SIZE}, list(outputs), weights, opset=18)


def assert_becomes(model: onnx.ModelProto, ops: Mapping[str, int], fired: int = 1) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: fired}
    assert after.ops == ops
    assert [value.name for value in after.model.graph.output] == [value.name for value in model.graph.output]
    for sizes in ({"batch": 1, "length": 7}, {"batch": 3, "length": 5}):
        assert_same_answers(model, after.model, random_feeds(model, **sizes))
    assert rewrite(after.model, RULE).fired == {}


BETWEEN = {
    "bias": ([node("Add", "s bias", "r")], {"Add": 1}),
    "bias of lower rank": ([node("Sub", "row s", "r")], {"Sub": 1}),
    "activation": ([node("Relu", "s", "a"), node("Clip", "a low", "r")], {"Relu": 1, "Clip": 1}),
    "pad": ([node("Pad", "s pads", "r")], {"Pad": 1}),
    "gate": (
        [node("Tanh", "s", "a"), node("Sigmoid", "s", "b"), node("Mul", "a b", "r")],
        {"Tanh": 1, "Sigmoid": 1, "Mul": 1},
    ),
    "choice": (
        [node("Cast", "s", "g", to=onnx.TensorProto.BOOL), node("Where", "g s bias", "r")],
        {"Cast": 1, "Where": 1},
    ),
    "twice": ([node("Concat", "s s", "d", axis=-1), node("Neg", "d", "r")], {"Concat": 1, "Neg": 1}),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_lies_between_works_in_the_rank_of_the_convolutions(name: str) -> None:
    between, ops = BETWEEN[name]
    assert_becomes(model_of([*FIRST, *between, *LAST]), {"Conv": 2, **ops})


def test_an_axis_counted_from_the_end() -> None:
    first = [FIRST[0], node("Squeeze", "c minus", "s")]
    model = make_model(
        [*first, node("Add", "s bias", "r"), *LAST],
        {"x": SIZE},
        ["y"],
        {**{name: WEIGHTS[name] for name in ("w", "v", "bias", "two")}, "minus": np.array([-2], np.int64)},
        opset=18,
    )
    assert_becomes(model, {"Conv": 2, "Add": 1})


def test_two_branches_meet() -> None:
    second = [node("Conv", "x v", "d"), node("Squeeze", "d two", "t")]
    model = model_of([*FIRST, *second, node("Add", "s t", "a"), node("Relu", "a", "r"), *LAST])
    assert_becomes(model, {"Conv": 3, "Add": 1, "Relu": 1})


def test_a_residual_goes_on() -> None:
    """The sum goes into a convolution and past it."""
    more = [node("Squeeze", "y two", "t"), node("Add", "t r", "q"), node("Unsqueeze", "q two", "p")]
    model = model_of([*FIRST, node("Add", "s bias", "r"), *LAST, *more, node("Conv", "p v", "z")], ["z"])
    assert_becomes(model, {"Conv": 3, "Add": 2})


def test_others_read_it_without_the_axis() -> None:
    model = model_of(
        [*FIRST, node("Add", "s bias", "r"), *LAST, node("Softmax", "r", "z", axis=-1)], ["y", "z"]
    )
    assert_becomes(model, {"Conv": 2, "Add": 1, "Squeeze": 1, "Softmax": 1})


def test_a_result_keeps_its_name_and_rank() -> None:
    model = model_of([*FIRST, node("Add", "s bias", "r"), *LAST], ["r", "y"])
    assert_becomes(model, {"Conv": 2, "Add": 1, "Squeeze": 1})


def test_a_bias_at_the_end_moves_to_its_convolution() -> None:
    assert_becomes(model_of([*FIRST, node("Add", "s bias", "y")]), {"Conv": 1, "Add": 1, "Squeeze": 1})


def test_regions_of_different_axes_follow_each_other() -> None:
    nodes = [
        *FIRST,
        node("Relu", "s", "a"),
        node("Unsqueeze", "a three", "b"),
        node("Abs", "b", "d"),
        node("Squeeze", "d three", "e"),
        node("Neg", "e", "r"),
        *LAST,
    ]
    after = rewrite(model_of(nodes), RULE)
    assert after.fired[RULE] >= 1
    assert_same_answers(model_of(nodes), after.model, random_feeds(model_of(nodes), batch=2, length=5))


UNCHANGED: dict[str, list[onnx.NodeProto]] = {
    "it looks at other elements": [*FIRST, node("Softmax", "s", "r", axis=-1), *LAST],
    "another axis comes back, and others need it": [
        node("Relu", "x", "c"),
        FIRST[1],
        node("Relu", "s", "r"),
        node("Unsqueeze", "r one", "y"),
    ],
    "no convolution, and nothing gained": [node("Relu", "x", "c"), FIRST[1], node("Abs", "s", "y")],
    "the Unsqueeze gives the result": [
        node("Relu", "x", "c"),
        FIRST[1],
        node("Abs", "s", "r"),
        node("Unsqueeze", "r two", "y"),
    ],
    "it pads with what is there": [*FIRST, node("Pad", "s pads", "r", mode="edge"), *LAST],
    "an operand of another rank": [
        *FIRST,
        node("ReduceMax", "x", "m", keepdims=0),
        node("Add", "s m", "r"),
        *LAST,
    ],
}


@pytest.mark.parametrize("reason", UNCHANGED)
def test_what_stays(reason: str) -> None:
    model = model_of(UNCHANGED[reason])
    onnx.checker.check_model(model, full_check=True)
    assert rewrite(model, RULE).fired == {}
