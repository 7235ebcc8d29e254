"""eliminate_invariant_state: what each trip of a Loop or Scan hands on unchanged is read from outside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import all_nodes, assert_same_answers, node, rewrite
from tests.passes.repetitions import (
    EVERY_COURSE,
    PASS,
    assert_fires,
    body_of,
    feeds,
    loop,
    loops_of,
    model_of,
)

RULE = "eliminate_invariant_state"
STEP = node("MatMul", "s w", "t")


def assert_taken_out(model: onnx.ModelProto, times: int = 1) -> onnx.ModelProto:
    return assert_fires(model, RULE, times)


WAYS = {
    "directly": ([PASS, STEP], "again t w"),
    "through Identity": ([PASS, STEP, node("Identity", "w", "w_")], "again t w_"),
    "through two": ([PASS, STEP, node("Identity", "w", "w_"), node("Identity", "w_", "w__")], "again t w__"),
}


@pytest.mark.parametrize("initial", ["w0", "v"])
@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_is_handed_on(way: str, initial: str) -> None:
    nodes, results = WAYS[way]
    body = body_of(nodes, "i go s w", results)
    model = model_of([loop(f"times flag x {initial}", "y last", body)], "y")
    after = assert_taken_out(model)
    (kept,) = loops_of(after)
    assert list(kept.input) == ["times", "flag", "x"]
    assert list(kept.output) == ["y"]
    (inner,) = [each for each in kept.attribute[0].g.node if each.op_type == "MatMul"]
    assert list(inner.input) == ["s", initial]
    assert len(kept.attribute[0].g.node) == 2


def test_what_is_computed_of_a_weight_alone_is_folded() -> None:
    nodes = [PASS, node("Transpose", "w", "u", perm=[1, 0]), node("MatMul", "s u", "t")]
    body = body_of([*nodes, node("Identity", "w", "w_")], "i go s w", "again t w_")
    model = model_of([loop("times flag x w0", "y last", body)], "y")
    after = rewrite(model)
    assert "Transpose" not in after.ops
    (kept,) = loops_of(after.model)
    assert [list(each.dims) for each in kept.attribute[0].g.initializer] == [[3, 3]]
    assert_taken_out(model)


@pytest.mark.parametrize("initial", ["w0", "v", "r"])
def test_the_last_value_is_a_result_of_the_model(initial: str) -> None:
    body = body_of([PASS, STEP], "i go s w", "again t w")
    nodes = [
        node("Relu", "v", "r"),
        loop(f"times flag x {initial}", "y last", body),
        node("Neg", "last", "z"),
    ]
    after = assert_taken_out(model_of(nodes, "y last z"))
    assert [each.name for each in after.graph.output] == ["y", "last", "z"]


def test_the_last_value_is_read() -> None:
    body = body_of([PASS, STEP], "i go s w", "again t w")
    after = assert_taken_out(
        model_of([loop("times flag x v", "y last", body), node("Neg", "last", "z")], "y z")
    )
    assert [list(each.input) for each in after.graph.node if each.op_type == "Neg"] == [["v"]]


@pytest.mark.parametrize("results", ["again t w w_", "again t w_ w"])
def test_a_stacked_result_of_it_stays(results: str) -> None:
    body = body_of([PASS, STEP, node("Identity", "w", "w_")], "i go s w", results)
    after = assert_taken_out(model_of([loop("n3 yes x v", "y last z", body)], "y z:3"))
    assert list(loops_of(after)[0].output) == ["y", "z"]


def test_a_condition_that_is_handed_on() -> None:
    body = body_of([STEP], "i go s w go_", "again t w go_")
    body.node.append(node("Identity", "go_", "again"))
    after = assert_taken_out(model_of([loop("times flag x v flag", "y last end", body)], "y"), 2)
    assert list(loops_of(after)[0].input) == ["times", "flag", "x"]


def test_nothing_else_is_carried() -> None:
    nodes = [PASS, node("Neg", "w", "u")]
    model = model_of([loop("n3 flag v", "last z", body_of(nodes, "i go w", "again w u"))], "z:3")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert list(loops_of(after.model)[0].input) == ["n3", "flag"]
    assert_same_answers(model, after.model, feeds())


def test_a_loop_that_does_nothing_goes() -> None:
    model = model_of([loop("times flag v x", "a b", body_of([PASS], "i go w s", "again w s"))], "a b")
    assert loops_of(assert_taken_out(model, 2)) == []


def test_a_state_that_is_handed_on_as_another_that_begins_alike() -> None:
    nodes = [PASS, node("MatMul", "s a", "t"), node("Identity", "b", "c")]
    model = model_of([loop("times flag x v v", "y p q", body_of(nodes, "i go s a b", "again t b c"))], "y p")
    assert list(loops_of(assert_taken_out(model, 2))[0].input) == ["times", "flag", "x"]


def test_a_state_that_is_set_to_the_outer_value_with_which_it_began() -> None:
    nodes = [PASS, STEP, node("Identity", "v", "w_")]
    model = model_of([loop("times flag x v", "y last", body_of(nodes, "i go s w", "again t w_"))], "y last")
    assert_taken_out(model)


def _nested(inner_result: str) -> onnx.ModelProto:
    inner = body_of(
        [node("Identity", "go_", "again_"), node("MatMul", "p q", "o")], "i_ go_ p q", "again_ o q"
    )
    nodes = [PASS, loop("n3 yes s w", f"t {inner_result}", inner)]
    if inner_result == "last":
        nodes.append(node("Identity", "last", "w_"))
    body = body_of(nodes, "i go s w", "again t w_")
    return model_of([loop("times flag x v", "y end", body)], "y end")


@pytest.mark.parametrize("inner_result", ["last", "w_"])
def test_a_loop_in_the_body_hands_it_on_too(inner_result: str) -> None:
    after = assert_taken_out(_nested(inner_result), 2)
    (product,) = [each for each in all_nodes(after.graph) if each.op_type == "MatMul"]
    assert product.input[1] == "v"
    assert [len(each.input) for each in loops_of(after)] == [3, 3]


def test_a_branch_in_the_body_reads_it_or_hands_it_out() -> None:
    def branch(inner: onnx.NodeProto) -> onnx.GraphProto:
        info = helper.make_tensor_value_info(inner.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([inner], "branch", [], [info])

    choice = node(
        "If",
        "c",
        "t",
        then_branch=branch(node("MatMul", "s w", "p")),
        else_branch=branch(node("ReduceMax", "w", "e", axes=[0])),
    )
    nodes = [PASS, node("Cast", "i", "c", to=TensorProto.BOOL), choice]
    body = body_of(nodes, "i go s w", "again t w")
    assert_taken_out(model_of([loop("times flag x v", "y last", body)], "y"))


def test_neighbours_whose_bodies_share_names() -> None:
    def body() -> onnx.GraphProto:
        return body_of([PASS, STEP, node("Identity", "w", "u")], "i go s w", "again t w u")

    model = model_of(
        [loop("n3 yes x v", "a b c", body()), loop("n3 yes x w0", "d e f", body()), node("Add", "c f", "y")],
        "a d y:3 e",
    )
    assert_taken_out(model, 2)


def test_in_a_function() -> None:
    constants = [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(2)))]
    nodes = [*constants, loop("c - p m", "q r", body_of([PASS, STEP], "i go s w", "again t w"))]
    function = helper.make_function("test", "F", ["p", "m"], ["q", "r"], nodes, [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x", "v"], ["y", "z"], domain="test")
    model = model_of([call], "y z", functions=[function])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert [each.op_type for each in after.model.functions[0].node] == ["Constant", "Identity", "Loop"]
    assert_same_answers(model, after.model, feeds())


def test_a_sequence_that_is_handed_on() -> None:
    nodes = [PASS, node("SequenceAt", "q i", "a"), node("MatMul", "s a", "t")]
    body = body_of(nodes, "i go s q", "again t q")
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    for info in (body.input[3], body.output[2]):
        info.type.CopyFrom(kind)
    made = [node("SequenceConstruct", "v w0 v w0 v", "list"), loop("times flag x list", "y last", body)]
    assert_taken_out(model_of([*made, node("ConcatFromSequence", "last", "z", axis=0)], "y z"))


def test_scan() -> None:
    """Both by Identity: a Scan that passes its state out by name gets it wrong on onnxruntime 1.31.1."""
    nodes = [node("MatMul", "s w", "m"), node("Add", "m r", "t")]
    nodes += [node("Identity", "t", "u"), node("Identity", "w", "w_"), node("Identity", "w_", "w__")]
    body = body_of(nodes, "s w r", "t w_ u w__")
    scan = helper.make_node("Scan", ["x", "w0", "v"], ["y", "last", "z", "k"], body=body, num_scan_inputs=1)
    after = assert_taken_out(model_of([scan], "y z:3 k:3 last"))
    (kept,) = loops_of(after)
    assert (list(kept.input), list(kept.output)) == (["x", "v"], ["y", "z", "k"])


def test_documentation_and_metadata() -> None:
    outer = loop("times flag x v", "y last", body_of([PASS, STEP], "i go s w", "again t w"), name="repeat")
    outer.doc_string = "goes round"
    outer.metadata_props.add(key="kind", value="loop")
    (kept,) = loops_of(assert_taken_out(model_of([outer], "y")))
    assert (kept.name, kept.doc_string) == ("repeat", "goes round")
    assert [(each.key, each.value) for each in kept.metadata_props] == [("kind", "loop")]


KEPT = {
    "changed": ([PASS, STEP, node("Neg", "w", "u")], "again t u"),
    "handed on as another": ([PASS, STEP], "again t s"),
    "set to another outer value": ([PASS, STEP, node("Identity", "w0", "u")], "again t u"),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out_of_what_is(case: str) -> None:
    nodes, results = KEPT[case]
    if case == "handed on as another":
        nodes = [PASS, node("Relu", "s", "t")]
    model = model_of([loop("times flag x v", "y last", body_of(nodes, "i go s w", results))], "y last")
    assert rewrite(model, RULE).fired == {}
    for each in EVERY_COURSE:
        assert_same_answers(model, rewrite(model).model, each)


def test_keeps_out_of_optional_values() -> None:
    body = body_of([PASS, STEP, node("Identity", "w", "w_")], "i go s w", "again t w_")
    model = model_of([loop("times flag x v", "y last", body)], "y")
    matrix = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    state = model.graph.node[0].attribute[0].g.input[3]
    state.type.CopyFrom(helper.make_optional_type_proto(matrix))
    assert rewrite(model, RULE).fired == {}
