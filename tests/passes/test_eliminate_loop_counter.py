"""eliminate_loop_counter: a state that counts the trips is read from the number of the trip."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, node, rewrite
from tests.passes.repetitions import (
    EVERY_COURSE,
    PASS,
    assert_fires,
    assert_same_courses,
    body_of,
    loop,
    loops_of,
    model_of,
)

RULE = "eliminate_loop_counter"
ROW = [node("Gather", "table c", "r", axis=0), node("Add", "s r", "t")]
VALUE = [node("Cast", "c", "f", to=TensorProto.FLOAT), node("Add", "s f", "t")]
TABLE = {"table": np.arange(24, dtype=np.float32).reshape(8, 1, 3)}
COUNT = node("Add", "c one", "d")


def counting(
    nodes: list[onnx.NodeProto],
    *,
    dtype: type = np.int32,
    begin: int = 0,
    step: int = 1,
    outputs: str = "y",
    results: str = "again t d",
) -> onnx.ModelProto:
    """A Loop with a state `c`, which is `d` in the next trip."""
    body = body_of([PASS, *nodes], "i go s c", results, {"one": dtype(step)})
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for info in (body.input[3], body.output[2]):
        info.type.tensor_type.elem_type = kind
        info.type.tensor_type.shape.SetInParent()
    given = [loop("times flag x begin", "y end", body), node("Cast", "end", "last", to=TensorProto.FLOAT)]
    if "last" not in outputs:
        given.pop()
    return model_of(given, outputs, {"begin": dtype(begin), **TABLE})


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("count", [COUNT, node("Add", "one c", "d")], ids=["c + 1", "1 + c"])
def test_a_row_of_each_trip(dtype: type, count: onnx.NodeProto) -> None:
    after = assert_fires(counting([*ROW, count], dtype=dtype), RULE)
    (kept,) = loops_of(after)
    assert (list(kept.input), list(kept.output)) == (["times", "flag", "x"], ["y"])
    assert [each.op_type for each in kept.attribute[0].g.node] == ["Identity", "Gather", "Add"]
    assert kept.attribute[0].g.node[1].input[1] == "i"


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_count_itself(dtype: type) -> None:
    after = assert_fires(counting([*VALUE, COUNT], dtype=dtype), RULE)
    assert len(loops_of(after)[0].input) == 3


def test_the_next_count_is_read_too() -> None:
    nodes = [COUNT, node("Gather", "table d", "r", axis=0), node("Add", "s r", "t")]
    after = assert_fires(counting(nodes), RULE)
    inside = [each.op_type for each in loops_of(after)[0].attribute[0].g.node]
    assert sorted(inside) == ["Add", "Add", "Cast", "Gather", "Identity"]


def test_a_count_of_another_type_as_data_and_as_index() -> None:
    nodes = [*ROW[:1], node("Cast", "c", "f", to=TensorProto.FLOAT), node("Mul", "r f", "q")]
    assert_fires(counting([*nodes, node("Add", "s q", "t"), COUNT]), RULE)


def test_two_counts() -> None:
    nodes = [
        PASS,
        *ROW[:1],
        node("Gather", "table e", "q", axis=0),
        node("Sub", "r q", "u"),
        node("Add", "s u", "t"),
    ]
    body = body_of(
        [*nodes, COUNT, node("Add", "e one", "g")], "i go s c e", "again t d g", {"one": np.int64(1)}
    )
    for info in (*body.input[3:], *body.output[2:]):
        info.type.tensor_type.elem_type = TensorProto.INT64
    model = model_of([loop("times flag x begin begin", "y a b", body)], "y", {"begin": np.int64(0), **TABLE})
    assert len(loops_of(assert_fires(model, RULE, 2))[0].input) == 3


def test_a_branch_reads_it() -> None:
    def branch(inner: onnx.NodeProto) -> onnx.GraphProto:
        info = helper.make_tensor_value_info(inner.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([inner], "branch", [], [info])

    then, other = node("Gather", "table c", "p", axis=0), node("Neg", "s", "e")
    nodes = [
        node("If", "go", "r", then_branch=branch(then), else_branch=branch(other)),
        node("Add", "s r", "t"),
    ]
    assert_fires(counting([*nodes, COUNT]), RULE)


KEPT = {
    "begins with 2": counting([*ROW, COUNT], begin=2),
    "grows by 2": counting([*ROW, COUNT], step=2),
    "is read at the end": counting([*ROW, COUNT], outputs="y last:0"),
    "shrinks": counting([*ROW, node("Sub", "c one", "d")], begin=7),
    "doubles": counting([*ROW, node("Add", "c c", "d")]),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out_of_what(case: str) -> None:
    assert rewrite(KEPT[case], RULE).fired == {}
    for each in EVERY_COURSE[1:]:
        assert_same_answers(KEPT[case], rewrite(KEPT[case]).model, each)


def test_keeps_out_of_a_count_that_is_handed_out() -> None:
    model = counting([*ROW, COUNT, node("Cast", "d", "u", to=TensorProto.FLOAT)], results="again t d u c")
    info = model.graph.node[0].attribute[0].g.output[4]
    info.type.tensor_type.elem_type = TensorProto.INT32
    model.graph.node[0].output.extend(["z", "numbers"])
    onnx.checker.check_model(model)
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model).model)


def test_keeps_out_of_numbers_with_an_axis() -> None:
    model = counting([*VALUE, COUNT])
    number = model.graph.node[0].attribute[0].g.input[0]
    number.type.tensor_type.shape.dim.add().dim_value = 1
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model).model)
