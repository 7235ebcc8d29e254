"""inline_functions: the nodes of a function stand in for its calls, whatever each call gives it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.core.journal import Journal
from fuseonnx.passes import inline_functions
from tests.helpers import IR_VERSION, assert_same_answers, f32, node, rewrite, run_reference

RULE = "inline_functions"
Nodes = Sequence[onnx.NodeProto]


def function(
    name: str, inputs: str, outputs: str, nodes: Nodes, *attributes: str, opset: int = 17, **defaults: Any
) -> onnx.FunctionProto:
    """A function of the domain `test`."""
    return helper.make_function(
        "test",
        name,
        inputs.split(),
        outputs.split(),
        list(nodes),
        [helper.make_opsetid("", opset), helper.make_opsetid("test", 1)],
        attributes,
        [helper.make_attribute(key, value) for key, value in defaults.items()],
    )


def call(function_name: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A call; "-" is an input that is absent."""
    given = ["" if each == "-" else each for each in inputs.split()]
    return helper.make_node(function_name, given, outputs.split(), domain="test", **attributes)


def model_of(
    nodes: Nodes,
    outputs: str,
    functions: Sequence[onnx.FunctionProto],
    weights: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """A model of x [n, 3] whose outputs are float matrices."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("test", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, functions=list(functions))
    onnx.checker.check_model(model)
    return model


def parameter(
    op_type: str, inputs: str, outputs: str, name: str, refers_to: str, kind: int
) -> onnx.NodeProto:
    """A node whose attribute `name` is the parameter `refers_to` of the function."""
    result = node(op_type, inputs, outputs)
    result.attribute.add(name=name, ref_attr_name=refers_to, type=kind)
    return result


def constant(name: str, data: Any) -> onnx.NodeProto:
    """A Constant node."""
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.asarray(data), f"{name}_t")
    )


def branch(nodes: Nodes, output: str, weights: Mapping[str, np.ndarray] | None = None) -> onnx.GraphProto:
    """A branch of an If."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [info], tensors)


SHARED_NAMES = [node("Exp", "p", "t"), node("Neg", "t", "q")]
POSITIVE = [node("ReduceSum", "x", "s", keepdims=0), node("Cast", "s", "c", to=TensorProto.BOOL)]


def test_one_call() -> None:
    model = model_of([call("F", "x", "y")], "y", [function("F", "p", "q", SHARED_NAMES)])
    after = rewrite(model, RULE)
    assert (after.fired, after.ops) == ({RULE: 1}, {"Exp": 1, "Neg": 1})
    assert_same_answers(model, after.model)
    assert not rewrite(model).model.functions


def test_calls_that_follow_and_share_names_with_the_graph() -> None:
    nodes = [node("Relu", "x", "t"), call("F", "t", "q"), call("F", "q", "u"), node("Add", "q u", "y")]
    model = model_of(nodes, "y", [function("F", "p", "q", SHARED_NAMES)])
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == 2
        assert after.ops == {"Relu": 1, "Exp": 2, "Neg": 2, "Add": 1}
        assert_same_answers(model, after.model)


def test_calls_in_functions() -> None:
    inner = function("G", "p", "q", [node("Tanh", "p", "t"), node("Neg", "t", "q")])
    outer = function("F", "p", "q", [call("G", "p", "t"), call("G", "t", "u"), node("Exp", "u", "q")])
    model = model_of([call("F", "x", "a"), call("F", "a", "y")], "y", [outer, inner])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 6}
    assert after.ops == {"Tanh": 4, "Neg": 4, "Exp": 2}
    assert_same_answers(model, after.model)


def test_calls_in_branches() -> None:
    choice = node(
        "If",
        "c",
        "y",
        then_branch=branch([call("F", "x", "a")], "a"),
        else_branch=branch([call("F", "x", "t"), call("F", "t", "a")], "a"),
    )
    model = model_of([*POSITIVE, choice], "y", [function("F", "p", "q", SHARED_NAMES)])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 3}
    for feeds in ({"x": f32(np.ones((2, 3)))}, {"x": f32(np.zeros((2, 3)))}):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_function_with_branches_that_have_constants(calls: int) -> None:
    choice = node(
        "If",
        "c",
        "q",
        then_branch=branch([node("Mul", "p w", "t")], "t", {"w": f32([1, 2, 3])}),
        else_branch=branch([constant("w", f32([4, 5, 6])), node("Sub", "p w", "t")], "t"),
    )
    inner = [node("ReduceSum", "p", "s", keepdims=0), node("Cast", "s", "c", to=TensorProto.BOOL), choice]
    nodes = [call("F", "x", "w"), call("F", "w", "y") if calls == 2 else node("Neg", "w", "y")]
    model = model_of(nodes, "y", [function("F", "p", "q", inner)])
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == calls
        for feeds in ({"x": f32(np.ones((2, 3)))}, {"x": f32(np.zeros((2, 3)))}):
            assert_same_answers(model, after.model, feeds)


def test_constants_of_several_calls() -> None:
    inner = [constant("k", f32([1, 2, 3])), constant("m", f32([4, 5, 6])), node("Add", "p k", "t")]
    shift = function("F", "p", "q", [*inner, node("Mul", "t m", "q")])
    model = model_of([call("F", "x", "a"), call("F", "a", "b"), node("Exp", "b", "y")], "y", [shift])
    for only in ([RULE], [RULE, "lift_constants"], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == 2
        assert_same_answers(model, after.model, {"x": f32(-np.ones((2, 3)))})
    assert len(after.model.graph.initializer) == 2


@pytest.mark.parametrize("given", [{"slope": 0.25}, {}], ids=["given", "default"])
def test_parameters(given: dict[str, float]) -> None:
    inner = [
        parameter("LeakyRelu", "p", "t", "alpha", "slope", onnx.AttributeProto.FLOAT),
        parameter("Constant", "", "k", "value_float", "slope", onnx.AttributeProto.FLOAT),
        node("Add", "t k", "q"),
    ]
    model = model_of([call("F", "x", "y", **given)], "y", [function("F", "p", "q", inner, slope=0.5)])
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == 1
        assert_same_answers(model, after.model)


def test_a_parameter_that_the_call_leaves_out() -> None:
    inner = [parameter("LeakyRelu", "p", "q", "alpha", "slope", onnx.AttributeProto.FLOAT)]
    model = model_of([call("F", "x", "y")], "y", [function("F", "p", "q", inner, "slope")])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert not after.model.graph.node[0].attribute
    assert_same_answers(model, after.model)


def test_a_parameter_that_goes_on_to_another_function_and_into_a_branch() -> None:
    leaky = [parameter("LeakyRelu", "p", "t", "alpha", "a", onnx.AttributeProto.FLOAT)]
    choice = node(
        "If", "c", "q", then_branch=branch(leaky, "t"), else_branch=branch([node("Exp", "p", "u")], "u")
    )
    inner = [node("ReduceSum", "p", "s", keepdims=0), node("Cast", "s", "c", to=TensorProto.BOOL), choice]
    outer = parameter("G", "p", "q", "a", "b", onnx.AttributeProto.FLOAT)
    outer.domain = "test"
    functions = [function("F", "p", "q", [outer], "b"), function("G", "p", "q", inner, "a")]
    model = model_of([call("F", "x", "y", b=0.125)], "y", functions)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in ({"x": f32([[1, -2, 3]])}, {"x": f32(np.zeros((2, 3)))}):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("inputs", ["x - top", "x bottom", "x bottom top"])
def test_inputs_that_the_call_leaves_out(inputs: str) -> None:
    clip = function("F", "p low high", "q", [node("Clip", "p low high", "q")])
    model = model_of([call("F", inputs, "y")], "y", [clip], {"bottom": f32(-0.5), "top": f32(0.5)})
    after = rewrite(model, RULE)
    assert (after.fired, after.ops) == ({RULE: 1}, {"Clip": 1})
    assert_same_answers(model, after.model)


def test_several_outputs() -> None:
    several = function("F", "p", "n r", [node("Relu", "p", "r"), node("Neg", "p", "n")])
    model = model_of([call("F", "x", "a b")], "b a", [several])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_an_output_that_is_an_input() -> None:
    """onnxruntime does not load such a function, but it takes what becomes of it."""
    model = model_of([call("F", "x", "a b")], "b a", [function("F", "p", "p n", [node("Neg", "p", "n")])])
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.ops == {"Identity": 1, "Neg": 1}
    x = f32([[1, -2, 3]])
    answers = run_reference(after.model, {"x": x})
    np.testing.assert_array_equal(answers["a"], x)
    np.testing.assert_array_equal(answers["b"], -x)


def test_outputs_that_the_call_leaves_out() -> None:
    several = function(
        "F", "p", "a b c", [node("Relu", "p", "a"), node("Neg", "p", "b"), node("Exp", "p", "c")]
    )
    skipping = helper.make_node("F", ["x"], ["", "y", "z"], domain="test")
    model = model_of([skipping], "y", [several])
    after = rewrite(model)
    assert after.ops == {"Neg": 1}
    assert_same_answers(model, after.model)


def test_names_of_dims_mean_something_else_in_each_call() -> None:
    """The rows of what NonZero finds differ, though the function has one name for them."""
    inner = [
        node("Relu", "p", "r"),
        node("NonZero", "r", "i"),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Transpose", "f", "q", perm=[1, 0]),
    ]
    found = function("F", "p", "q", inner)
    found.value_info.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, ["N", 2]))
    nodes = [
        call("F", "x", "a"),
        node("Neg", "x", "m"),
        call("F", "m", "b"),
        node("Shape", "a", "s"),
        node("Shape", "b", "u"),
        node("Concat", "s u", "v", axis=0),
        node("Cast", "v", "w", to=TensorProto.FLOAT),
        node("Unsqueeze", "w zero", "y"),
    ]
    model = model_of(nodes, "a b y", [found], {"zero": np.array([0])})
    after = rewrite(model)
    assert after.fired[RULE] == 2
    assert_same_answers(model, after.model, {"x": f32([[1, 2, -3]])})


def test_what_was_hidden_in_a_function_is_rewritten() -> None:
    inner = [constant("zero", f32(0)), node("Add", "p zero", "t"), node("Transpose", "t", "q", perm=[1, 0])]
    nodes = [call("F", "x", "a"), call("F", "a", "b"), node("Exp", "b", "y")]
    model = model_of(nodes, "y", [function("F", "p", "q", inner)])
    after = rewrite(model)
    assert after.ops == {"Exp": 1}
    assert_same_answers(model, after.model)
    assert rewrite(after.model).fired == {}


def test_names_documentation_and_metadata() -> None:
    inner = node("Relu", "p", "q", name="clip", doc_string="clips")
    inner.metadata_props.add(key="scope", value="block")
    outer = call("F", "x", "y", name="layer", doc_string="calls")
    outer.metadata_props.add(key="kind", value="call")
    model = model_of([outer], "y", [function("F", "p", "q", [inner, node("Neg", "p", "unused")])])
    kept = rewrite(model, RULE).model.graph.node
    assert [(each.name, each.doc_string) for each in kept] == [("layer/clip", "clips"), ("", "calls")]
    assert {each.key: each.value for each in kept[0].metadata_props} == {"scope": "block", "kind": "call"}
    assert [each.output[0] for each in kept] == ["y", "layer/unused"]


def test_a_function_of_another_domain_brings_its_import_along() -> None:
    inner = helper.make_node("Gelu", ["p"], ["q"], domain="com.microsoft")
    gelu = function("F", "p", "q", [inner])
    gelu.opset_import.add(domain="com.microsoft", version=1)
    model = model_of([call("F", "x", "y")], "y", [gelu])
    after = rewrite(model, RULE)
    assert after.ops == {"Gelu": 1}
    assert {each.domain: each.version for each in after.model.opset_import}["com.microsoft"] == 1
    assert_same_answers(model, after.model)


def _many(count: int) -> onnx.FunctionProto:
    names = ["p", *(f"t{i}" for i in range(1, count)), "q"]
    return function("F", "p", "q", [node("Neg", a, b) for a, b in itertools.pairwise(names)])


def _growing(depth: int) -> list[onnx.FunctionProto]:
    levels = [function("F0", "p", "q", [node("Neg", "p", "t"), node("Abs", "t", "q")])]
    for level in range(1, depth):
        inner = [call(f"F{level - 1}", "p", "t"), call(f"F{level - 1}", "t", "q")]
        levels.append(function(f"F{level}", "p", "q", inner))
    return levels


def test_a_big_function_that_is_called_once() -> None:
    model = model_of([call("F", "x", "y")], "y", [_many(5000)])
    assert rewrite(model, RULE).fired == {RULE: 1}


def test_what_grows_stops_and_stays() -> None:
    model = model_of([call("F12", "x", "y")], "y", _growing(13))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.declined[RULE] == {"its calls come to more than 4,096 nodes": 2}
    assert rewrite(after.model, RULE).fired == {}
    assert_same_answers(model, after.model)


def _with_graph_parameter() -> onnx.FunctionProto:
    result = function("F", "p", "q", [node("Relu", "p", "q")])
    result.attribute.append("g")
    return result


KEPT: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "many calls of a big function": (
        "its calls come to more than 4,096 nodes",
        lambda: model_of([call("F", "x", "a"), call("F", "a", "y")], "y", [_many(2049)]),
    ),
    "another opset": (
        "the function is written for another version of the domain 'ai.onnx'",
        lambda: model_of([call("F", "x", "y")], "y", [function("F", "p", "q", SHARED_NAMES, opset=16)]),
    ),
    "an absent input is a result": (
        "the function passes out an input that is absent",
        lambda: model_of(
            [call("F", "x", "y z")], "y", [function("F", "p o", "q o", [node("Relu", "p", "q")])]
        ),
    ),
    "a graph is given": (
        "an attribute of the call is a graph",
        lambda: model_of(
            [call("F", "x", "y", g=branch([node("Relu", "x", "z")], "z"))], "y", [_with_graph_parameter()]
        ),
    ),
    "more inputs than the function has": (
        "the call has more inputs or outputs than the function",
        lambda: model_of([call("F", "x x", "y")], "y", [function("F", "p", "q", SHARED_NAMES)]),
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out(case: str) -> None:
    reason, build = KEPT[case]
    after = rewrite(build(), RULE)
    assert after.fired == {}
    assert set(after.declined[RULE]) == {reason}


def test_keeps_out_of_a_function_that_calls_itself() -> None:
    model = model_of([call("F", "x", "y")], "y", _growing(3)[::-1][:2])
    model.functions[1].node[0].op_type = model.functions[0].name
    model.graph.node[0].op_type = model.functions[0].name
    journal = Journal()
    inline_functions.run(ir.from_proto(model), journal)
    assert journal.applied == []
    assert [decline.reason for decline in journal.declined.values()] == ["the function calls itself"]
