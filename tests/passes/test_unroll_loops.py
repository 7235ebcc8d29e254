"""unroll_loops: a Loop of known length is written out, whatever it carries, stacks, reads and holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import IR_VERSION, Feeds, assert_same_answers, f32, node, rewrite
from tests.passes.repetitions import loop

RULE = "unroll_loops"
Nodes = Sequence[onnx.NodeProto]
PASS = node("Identity", "go", "again")
TANH = [PASS, node("Tanh", "s", "t")]
X: Feeds = {"x": f32([1, -2, 3]), "times": np.array(2), "flag": np.array(True)}


def body_of(
    nodes: Nodes,
    states: str,
    results: str,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    dims: Sequence[int] = (),
) -> onnx.GraphProto:
    """A body of `i`, `go` and some states; its first result is the condition."""
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, dims),
        helper.make_tensor_value_info("go", TensorProto.BOOL, dims),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in states.split()),
    ]
    condition, *others = results.split()
    outputs = [
        helper.make_tensor_value_info(condition, TensorProto.BOOL, dims),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in others),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    return helper.make_graph(list(nodes), "body", inputs, outputs, tensors)


def model_of(
    nodes: Nodes,
    outputs: str,
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of x [n], `times` and `flag`, with the constants `yes`, `no`, `n0`, `n1`, `n2`, `n3`, `w`.

    An output is a float vector, or of the rank that follows its name: "z:2".
    """
    constants = {f"n{count}": np.array(count) for count in range(4)}
    constants |= {"yes": np.array(True), "no": np.array(False), "w": f32([0.5, 2, -1]), **(weights or {})}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("times", TensorProto.INT64, []),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * int(rank or "1"))
            for name, _, rank in (each.partition(":") for each in outputs.split())
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("test", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, functions=list(functions))
    onnx.checker.check_model(model)
    return model


def assert_unrolls(model: onnx.ModelProto, times: int = 1, feeds: Feeds = X) -> None:
    """Assert that the rule fires, alone and with the others, and leaves the answers alone."""
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == times
        assert_same_answers(model, after.model, feeds)
        assert rewrite(after.model, *only).fired == {}


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("dims", [(), (1,)], ids=str)
def test_carries(count: int, dims: tuple[int, ...]) -> None:
    nodes = [loop("count start x", "y", body_of(TANH, "s", "again t", dims=dims))]
    model = model_of(nodes, "y", {"count": np.full(dims, count), "start": np.full(dims, True)})
    after = rewrite(model)
    assert after.fired[RULE] == 1
    assert after.ops == ({"Tanh": count} if count else {"Identity": 1})
    assert_unrolls(model)


@pytest.mark.parametrize("dims", [(), (1,)], ids=str)
def test_the_rank_of_the_number_and_of_the_condition(dims: tuple[int, ...]) -> None:
    nodes = [
        node("Cast", "go", "f", to=TensorProto.FLOAT),
        node("Cast", "i", "g", to=TensorProto.FLOAT),
        node("Add", "f g", "u"),
        node("Add", "s u", "t"),
        PASS,
    ]
    nodes = [loop("n2 start x", "y z", body_of(nodes, "s", "again t u", dims=dims))]
    assert_unrolls(model_of(nodes, f"y z:{1 + len(dims)}", {"start": np.full(dims, True)}))


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_stacks(count: int, opset: int) -> None:
    nodes = [PASS, node("Tanh", "s", "t"), node("ReduceSum", "t", "u", keepdims=0), node("Neg", "s", "v")]
    nodes = [loop(f"n{count} yes x", "y p q", body_of(nodes, "s", "again t u v"))]
    assert_unrolls(model_of(nodes, "y p:1 q:2", opset=opset))


CONDITIONS = {
    "starts false": (0, loop("times no x", "y", body_of(TANH, "s", "again t"))),
    "starts false, no limit": (0, loop("- no x", "y", body_of(TANH, "s", "again t"))),
    "negative limit": (0, loop("minus flag x", "y", body_of(TANH, "s", "again t"))),
    "no start": (2, loop("n2 - x", "y", body_of(TANH, "s", "again t"))),
    "passes the input": (2, loop("n2 yes x", "y", body_of(TANH[1:], "s", "go t"))),
    "constant outside": (
        2,
        loop("n2 yes x", "y", body_of([node("Identity", "yes", "again"), TANH[1]], "s", "again t")),
    ),
    "constant inside": (2, loop("n2 yes x", "y", body_of(TANH[1:], "s", "k t", {"k": np.array(True)}))),
    "ends after one": (1, loop("n3 yes x", "y", body_of(TANH[1:], "s", "k t", {"k": np.array(False)}))),
    "ends after one, no limit": (
        1,
        loop("- yes x", "y", body_of(TANH[1:], "s", "k t", {"k": np.array(False)})),
    ),
    "one, whatever comes": (
        1,
        loop("n1 yes x", "y", body_of([node("Identity", "flag", "again"), TANH[1]], "s", "again t")),
    ),
    "limit with an axis": (2, loop("two yes x", "y", body_of(TANH, "s", "again t"))),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions(case: str) -> None:
    trips, node_ = CONDITIONS[case]
    model = model_of([node_], "y", {"minus": np.array(-1), "two": np.array([2])})
    assert_unrolls(model)
    assert rewrite(model).ops.get("Tanh", 0) == trips


def test_the_number_of_the_trip() -> None:
    nodes = [PASS, node("Cast", "i", "f", to=TensorProto.FLOAT), node("Add", "s f", "t")]
    stack = node("Identity", "f", "u")
    model = model_of([loop("n3 yes x", "y z", body_of([*nodes, stack], "s", "again t u"))], "y z")
    assert_unrolls(model)
    assert rewrite(model).ops["Add"] <= 3


def test_states_that_change_places() -> None:
    nodes = [PASS, node("Exp", "a", "p"), node("Identity", "b", "q")]
    model = model_of([loop("n3 yes x w", "y z", body_of(nodes, "a b", "again q p"))], "y z")
    assert_unrolls(model)


def test_a_state_that_is_passed_out_twice() -> None:
    nodes = [PASS, node("Exp", "a", "p"), node("Identity", "p", "q")]
    model = model_of([loop("n2 yes x w", "y z", body_of(nodes, "a b", "again p q"))], "y z")
    assert_unrolls(model)


def test_constants_of_the_body_and_values_from_outside() -> None:
    nodes = [PASS, node("Mul", "s k", "m"), node("Add", "m r", "t")]
    body = body_of(nodes, "s", "again t", {"k": f32([1, 2, 3])})
    model = model_of([node("Relu", "x", "r"), loop("n3 yes x", "y", body)], "y")
    after = rewrite(model, RULE)
    assert after.ops["Mul"] == 3
    shared = [each.input[1] for each in after.model.graph.node if each.op_type == "Mul"]
    assert len(set(shared)) == 1
    assert_unrolls(model)


def test_neighbours_whose_bodies_share_names() -> None:
    def body(factor: float) -> onnx.GraphProto:
        return body_of([PASS, node("Mul", "s k", "t")], "s", "again t", {"k": f32([factor] * 3)})

    nodes = [loop("n2 yes x", "a", body(2.0)), loop("n2 yes w", "b", body(-3.0)), node("Add", "a b", "y")]
    assert_unrolls(model_of(nodes, "y"), times=2)


def _choice(then: onnx.NodeProto, other: onnx.NodeProto, weight: np.ndarray) -> Nodes:
    def branch(inner: onnx.NodeProto) -> onnx.GraphProto:
        info = helper.make_tensor_value_info(inner.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([inner], "branch", [], [info], [numpy_helper.from_array(weight, "k")])

    choice = node("If", "c", "t", then_branch=branch(then), else_branch=branch(other))
    return [node("ReduceSum", "s", "sum", keepdims=0), node("Cast", "sum", "c", to=TensorProto.BOOL), choice]


@pytest.mark.parametrize("x", [[1, -2, 3], [0, 0, 0]], ids=str)
def test_a_choice_in_the_body(x: list[float]) -> None:
    choice = _choice(node("Mul", "s k", "p"), node("Add", "s k", "p"), f32([1, 2, 3]))
    model = model_of([loop("n3 yes x", "y", body_of([PASS, *choice], "s", "again t"))], "y")
    assert_unrolls(model, feeds={**X, "x": f32(x)})


def test_a_choice_by_the_number_of_the_trip() -> None:
    """Once the trips are written out, each choice is constant, and its branch goes in with its constant."""
    choice = _choice(node("Mul", "s k", "p"), node("Add", "s k", "p"), f32([1, 2, 3]))
    nodes = [PASS, node("Cast", "i", "c", to=TensorProto.BOOL), choice[-1]]
    model = model_of([loop("n3 yes x", "y", body_of(nodes, "s", "again t"))], "y")
    after = rewrite(model)
    assert after.fired["inline_constant_if"] == 3
    assert "If" not in after.ops
    assert_unrolls(model)


@pytest.mark.parametrize("inner_trips", ["n2", "i"])
def test_a_loop_in_the_body(inner_trips: str) -> None:
    inner = body_of(
        [node("Identity", "go", "again"), node("Mul", "u k", "v")], "u", "again v", {"k": f32([1, 2, 3])}
    )
    renamed = {"i": "i2", "go": "go2", "again": "again2"}
    for each in (*inner.input, *inner.output):
        each.name = renamed.get(each.name, each.name)
    inner.node[0].CopyFrom(node("Identity", "go2", "again2"))
    nodes = [PASS, loop(f"{inner_trips} yes s", "t", inner)]
    model = model_of([loop("n3 yes x", "y", body_of(nodes, "s", "again t"))], "y")
    after = rewrite(model)
    assert after.fired[RULE] == (2 if inner_trips == "n2" else 4)
    assert "Loop" not in after.ops
    assert_unrolls(model, times=after.fired[RULE])


def test_in_a_function() -> None:
    constants = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(2))),
        loop("c - p", "q z", body_of([PASS, *TANH[1:], node("Neg", "s", "u")], "s", "again t u")),
    ]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("test", "F", ["p"], ["q", "z"], constants, imports)
    model = model_of([helper.make_node("F", ["x"], ["y", "z"], domain="test")], "y z:2", functions=[function])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert [each.op_type for each in after.model.functions[0].node].count("Tanh") == 2
    assert_same_answers(model, after.model, X)


def test_symbols_mean_something_else_in_each_trip() -> None:
    nodes = [
        PASS,
        node("NonZero", "s", "z"),
        node("Shape", "z", "d"),
        node("Cast", "d", "f", to=TensorProto.FLOAT),
        node("Slice", "s n1v n9v", "t"),
    ]
    body = body_of(nodes, "s", "again t f")
    model = model_of([loop("n2 yes x", "y z", body)], "y z:2", {"n1v": np.array([1]), "n9v": np.array([9])})
    assert_unrolls(model)


def test_documentation_and_metadata() -> None:
    inner = node("Tanh", "s", "t", name="act", doc_string="squashes")
    inner.metadata_props.add(key="scope", value="block")
    outer = loop("n2 yes x", "y", body_of([PASS, inner], "s", "again t"), name="repeat")
    outer.metadata_props.add(key="kind", value="loop")
    kept = [each for each in rewrite(model_of([outer], "y"), RULE).model.graph.node if each.op_type == "Tanh"]
    assert [each.name for each in kept] == ["act_1", "act_2"]
    assert {each.doc_string for each in kept} == {"squashes"}
    for each in kept:
        assert {prop.key: prop.value for prop in each.metadata_props} == {"scope": "block", "kind": "loop"}


RANDOM = node("RandomUniformLike", "s", "t", seed=3.0)
SILENT = {
    "a limit that is not known": loop("times yes x", "y", body_of(TANH, "s", "again t")),
    "a start that is not known": loop("n2 flag x", "y", body_of(TANH, "s", "again t")),
    "no end": loop("- yes x", "y", body_of(TANH[1:], "s", "k t", {"k": np.array(True)})),
    "an end that is not known": loop(
        "n2 yes x", "y", body_of([node("Identity", "flag", "again"), TANH[1]], "s", "again t")
    ),
}
KEPT = {
    "no trips leave a stacked result without a shape": loop(
        "n0 yes x", "y z", body_of(TANH, "s", "again t s")
    ),
    "33 trips come to more than 64 nodes": loop("many yes x", "y", body_of(TANH, "s", "again t")),
    "the body holds a random operator, or one that is not known": loop(
        "n2 yes x", "y", body_of([PASS, RANDOM], "s", "again t")
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_says_nothing_of(case: str) -> None:
    after = rewrite(model_of([SILENT[case]], "y"), RULE)
    assert (after.fired, after.declined) == ({}, {})


@pytest.mark.parametrize("reason", KEPT)
def test_keeps_out(reason: str) -> None:
    outputs = " ".join(KEPT[reason].output).replace("z", "z:2")
    after = rewrite(model_of([KEPT[reason]], outputs, {"many": np.array(33)}), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def test_keeps_out_of_optional_values() -> None:
    model = model_of([loop("n2 yes x", "y", body_of(TANH, "s", "again t"))], "y")
    float_vector = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    state = model.graph.node[0].attribute[0].g.input[2]
    state.type.CopyFrom(helper.make_optional_type_proto(float_vector))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"an optional value is carried, and what it holds may take its place": 1}


def test_one_trip_may_be_random_and_long() -> None:
    nodes = [PASS, *(node("Neg", f"t{i}" if i else "s", f"t{i + 1}") for i in range(80))]
    nodes += [node("RandomUniformLike", "t80", "r", seed=3.0), node("Add", "t80 r", "t")]
    model = model_of([loop("n1 yes x", "y", body_of(nodes, "s", "again t"))], "y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert "Loop" not in after.ops


def test_no_trips_and_a_stacked_result_that_nothing_reads() -> None:
    model = model_of([loop("n0 yes x", "y z", body_of(TANH, "s", "again t s"))], "y")
    assert_unrolls(model)


def test_keeps_out_of_a_function_that_would_get_initializers() -> None:
    body = body_of([PASS, node("Mul", "s k", "t")], "s", "again t", {"k": f32([1, 2, 3])})
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(2)))
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("test", "F", ["p"], ["q"], [constant, loop("c - p", "q", body)], imports)
    model = model_of([helper.make_node("F", ["x"], ["y"], domain="test")], "y", functions=[function])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"what holds the Loop cannot hold the initializers of its body": 1}
    assert_unrolls_with_the_function(model)


def assert_unrolls_with_the_function(model: onnx.ModelProto) -> None:
    """Assert that the Loop goes once its function is inlined."""
    after = rewrite(model)
    assert "Loop" not in after.ops
    assert_same_answers(model, after.model, X)
