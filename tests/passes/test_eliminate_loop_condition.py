"""eliminate_loop_condition: a condition that holds in all trips but the last is not computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, node, rewrite
from tests.passes.repetitions import (
    EVERY_COURSE,
    assert_fires,
    assert_same_courses,
    body_of,
    feeds,
    loop,
    loops_of,
    model_of,
)

RULE = "eliminate_loop_condition"
STEP = [node("MatMul", "s v", "m"), node("Tanh", "m", "t")]
NEXT = node("Add", "i one", "j")
FLOATS = [node("Cast", "i", "f", to=TensorProto.FLOAT), node("Cast", "j", "g", to=TensorProto.FLOAT)]


def counted(
    condition: list[onnx.NodeProto],
    bound: Any,
    *,
    limit: str = "n3",
    start: str = "flag",
    weights: Any = None,
) -> onnx.ModelProto:
    """A Loop over `condition`, which compares with `bound`."""
    body = body_of([*STEP, *condition], "i go s", "again t", {"one": np.int64(1), "bound": bound})
    return model_of([loop(f"{limit} {start} x", "y", body)], "y", weights)


HOLDS: dict[str, tuple[list[onnx.NodeProto], Any]] = {
    "i + 1 < 3": ([NEXT, node("Less", "j bound", "again")], np.int64(3)),
    "i < 2": ([node("Less", "i bound", "again")], np.int64(2)),
    "i <= 1": ([node("LessOrEqual", "i bound", "again")], np.int64(1)),
    "as floats": ([NEXT, FLOATS[1], node("Less", "g bound", "again")], np.float32(2.5)),
    "both": (
        [
            NEXT,
            *FLOATS,
            node("Less", "f bound", "p"),
            node("Less", "g bound", "q"),
            node("And", "p q", "again"),
        ],
        np.float32(3),
    ),
    "and what led here": ([node("Less", "i bound", "p"), node("And", "p go", "again")], np.int64(2)),
}
FAILS: dict[str, tuple[list[onnx.NodeProto], Any]] = {
    "i + 1 < 2": ([NEXT, node("Less", "j bound", "again")], np.int64(2)),
    "i < 1": ([node("Less", "i bound", "again")], np.int64(1)),
    "i <= 0": ([node("LessOrEqual", "i bound", "again")], np.int64(0)),
    "as floats": ([NEXT, FLOATS[1], node("Less", "g bound", "again")], np.float32(1.5)),
    "one of both": (
        [
            NEXT,
            *FLOATS,
            node("Less", "f bound", "p"),
            node("Less", "g bound", "q"),
            node("And", "p q", "again"),
        ],
        np.float32(2),
    ),
    "or": (
        [NEXT, node("Less", "i bound", "p"), node("Less", "j bound", "q"), node("Or", "p q", "again")],
        np.int64(1),
    ),
    "greater": ([node("Greater", "i bound", "again")], np.int64(0)),
    "rounded": (
        [NEXT, node("Cast", "j", "h", to=TensorProto.FLOAT16), node("Less", "h bound", "again")],
        np.float16(3),
    ),
    "not a number": ([NEXT, FLOATS[1], node("Less", "g bound", "again")], np.float32(np.nan)),
    "of the values": (
        [node("ReduceMax", "t", "p", keepdims=0), node("Less", "p bound", "again")],
        np.float32(0.9),
    ),
    "from outside": ([node("Less", "i times", "again")], np.int64(1)),
    "the bound first": ([node("Less", "bound i", "again")], np.int64(-1)),
}


@pytest.mark.parametrize("start", ["flag", "yes", "-"])
@pytest.mark.parametrize("case", HOLDS)
def test_a_condition_that_only_says_the_limit(case: str, start: str) -> None:
    after = assert_fires(counted(*HOLDS[case], start=start), RULE)
    assert [each.op_type for each in loops_of(after)[0].attribute[0].g.node] == ["MatMul", "Tanh", "Identity"]


@pytest.mark.parametrize("case", FAILS)
def test_keeps_out_of_a_condition(case: str) -> None:
    model = counted(*FAILS[case])
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model).model)


@pytest.mark.parametrize("limit", ["times", "-"])
def test_keeps_out_of_a_limit_that_is_not_known(limit: str) -> None:
    model = counted(*HOLDS["i < 2"], limit=limit)
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model).model)


def test_keeps_out_of_numbers_that_floats_do_not_tell_apart() -> None:
    condition = [NEXT, FLOATS[1], node("Less", "g bound", "again")]
    for limit, fired in ((1 << 22, {RULE: 1}), (1 << 23, {})):
        model = counted(condition, np.float32(limit), limit="many", weights={"many": np.array(limit)})
        assert rewrite(model, RULE).fired == fired


@pytest.mark.parametrize(
    ("begin", "step", "fired"), [(0, 1, 1), (-4, 1, 1), (2, 1, 0), (0, 2, 0), (0, -1, 0)]
)
def test_a_state_that_counts_along(begin: int, step: int, fired: int) -> None:
    """With a begin of 2 the condition ends the Loop, as with a step of 2; one of -1 is not known to count."""
    body = body_of(
        [*STEP, node("Add", "step c", "d"), node("Less", "d bound", "again")],
        "i go s c",
        "again t d",
        {"step": np.int32(step), "bound": np.int32(3)},
    )
    for info in (body.input[3], body.output[2]):
        info.type.tensor_type.elem_type = TensorProto.INT32
    model = model_of([loop("n3 flag x begin", "y end", body)], "y", {"begin": np.int32(begin)})
    assert rewrite(model, RULE).fired.get(RULE, 0) == fired
    for each in EVERY_COURSE:
        assert_same_answers(model, rewrite(model, RULE).model, each)
        assert_same_answers(model, rewrite(model).model, each)


def test_keeps_out_of_a_count_that_floats_round() -> None:
    """2**24 + 3, which the second trip compares, is the bound as a float, and ends the Loop."""
    compare = [node("Cast", "c", "f", to=TensorProto.FLOAT), node("Less", "f bound", "again")]
    constants = {"one": np.int32(1), "bound": np.float32((1 << 24) + 4)}
    body = body_of([*STEP, *compare, node("Add", "c one", "d")], "i go s c", "again t d", constants)
    for info in (body.input[3], body.output[2]):
        info.type.tensor_type.elem_type = TensorProto.INT32
    begin = {"begin": np.int32((1 << 24) + 2)}
    model = model_of([loop("n3 yes x begin", "y end", body)], "y", begin)
    assert rewrite(model, RULE).fired == {}
    assert_same_answers(model, rewrite(model).model, feeds())


def test_a_condition_that_is_stacked_too() -> None:
    nodes = [*STEP, NEXT, node("Less", "j bound", "again"), node("Cast", "again", "z", to=TensorProto.FLOAT)]
    body = body_of(nodes, "i go s", "again t z", {"one": np.int64(1), "bound": np.int64(3)})
    model = model_of([loop("n3 yes x", "y z", body)], "y z:1")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, feeds())
