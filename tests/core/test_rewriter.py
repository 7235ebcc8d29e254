"""The driver: what keeps a match out, how a replacement is spliced in, and when rewriting ends."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from fuseonnx import Builder, Match, Refused, Rule, any_of, const, op, var
from fuseonnx.core.builder import Names
from fuseonnx.core.invariants import check
from fuseonnx.core.journal import Application, Decline, Journal
from fuseonnx.core.pattern import Root
from fuseonnx.core.rewriter import Rewriter
from fuseonnx.errors import RewriteError
from tests.helpers import assert_same_answers, make_model
from tests.io.models import info, model_of


def apply(
    model: onnx.ModelProto, *rules: Rule, journal: Journal | None = None
) -> tuple[onnx.ModelProto, Journal]:
    """Rewrite with these rules alone; what comes out is whole."""
    journal = journal or Journal()
    graph = ir.from_proto(model)
    while Rewriter(graph, rules, journal, Names(graph)).run():
        pass
    assert check(graph) is None
    after = ir.to_proto(graph)
    onnx.checker.check_model(after)
    return after, journal


def _ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def _node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        op_type, inputs.split(), outputs.split(), f"{outputs.split(maxsplit=1)[0]}_node", **attributes
    )


def _chain(*nodes: onnx.NodeProto, outputs: str = "y", **kwargs: object) -> onnx.ModelProto:
    return make_model(nodes, {"x": [2, 3]}, outputs.split(), **kwargs)  # type: ignore[arg-type]


def _rule(name: str, pattern: Root, op_type: str, *inputs: str) -> Rule:
    """Replace `pattern` by one node of `op_type` on captured values."""
    return Rule(name, pattern, lambda m, new: new.op(op_type, *(m[each] for each in inputs)))


NEG_NEG = Rule("neg_neg", op("Neg", op("Neg", var("x"))), lambda m, _new: m["x"])
ABS_NEG = _rule("abs_neg", op("Abs", op("Neg", var("x"), name="neg")), "Abs", "x")


def _refuse(m: Match, new: Builder) -> ir.Value:
    new.op("Relu", m["x"])
    raise Refused("not today")


REFUSING = Rule("refusing", op("Neg", var("x")), _refuse)


def test_splices_and_keeps_the_output_name() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "a"), _node("Relu", "a", "y"))
    after, journal = apply(model, ABS_NEG)
    assert _ops(after) == ["Abs", "Relu"]
    assert after.graph.node[0].output[:] == ["a"]
    assert after.graph.node[0].name == "a_node"
    assert journal.applied == [Application("abs_neg", "a")]
    assert_same_answers(model, after)


def test_root_that_is_a_graph_output() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "y"))
    after, _ = apply(model, ABS_NEG)
    assert _ops(after) == ["Abs"]
    assert_same_answers(model, after)


@pytest.mark.parametrize("outputs", ["y n", "n y"])
def test_inner_node_that_is_a_graph_output_stays(outputs: str) -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "y"), outputs=outputs)
    after, journal = apply(model, ABS_NEG)
    assert after == ir.to_proto(ir.from_proto(model))
    assert journal.declined == {
        Application("abs_neg", "y"): Decline("Abs", "the result of Neg is a graph output")
    }


def test_inner_node_that_is_an_operand_too_stays() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Add", "n n", "y"))
    rule = Rule(
        "sub_self",
        op("Add", op("Neg", var("a")), var("b")),
        lambda m, new: new.op("Sub", m["b"], m["a"]),
    )
    after, journal = apply(model, rule)
    assert _ops(after) == ["Neg", "Add"]
    assert list(journal.declined.values()) == [Decline("Add", "the result of Neg is an operand too")]


def test_inner_node_with_another_user_stays() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "a"), _node("Add", "a n", "y"))
    after, journal = apply(model, ABS_NEG)
    assert _ops(after) == ["Neg", "Abs", "Add"]
    assert list(journal.declined.values()) == [Decline("Abs", "the result of Neg has other users")]


def test_inner_node_used_twice_within_the_match_goes() -> None:
    model = _chain(_node("Sigmoid", "x", "s"), _node("Add", "s s", "y"))
    double = Rule("double", op("Add", op("Sigmoid", var("x")), op("Sigmoid", var("x"))), _twice)
    after, _ = apply(model, double)
    assert "Add" not in _ops(after)
    assert_same_answers(model, after)


def _twice(m: Match, new: Builder) -> ir.Value:
    return new.op("Sum", *(new.op("Sigmoid", m["x"]) for _ in range(2)))


def test_shared_inner_node_stays_for_its_other_users() -> None:
    shared = _rule("shared", op("Abs", op("Neg", var("x"), shared=True)), "Abs", "x")
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "a"), _node("Add", "a n", "y"))
    after, _ = apply(model, shared)
    assert _ops(after) == ["Neg", "Abs", "Add"]
    assert after.graph.node[1].input[:] == ["x"]
    assert_same_answers(model, after)


@pytest.mark.parametrize(("outputs", "name"), [("y", "n_node"), ("y n", "n_node_1")])
def test_a_new_node_takes_the_name_of_an_old_one_unless_that_stays(outputs: str, name: str) -> None:
    def replace(m: Match, new: Builder) -> ir.Value:
        return new.op("Abs", new.op("Neg", m["x"], like=m.node("neg")))

    rule = Rule("again", op("Relu", op("Neg", var("x"), name="neg", shared=True)), replace)
    model = _chain(_node("Neg", "x", "n"), _node("Relu", "n", "y"), outputs=outputs)
    after, _ = apply(model, rule)
    negations = [node.name for node in after.graph.node if node.op_type == "Neg"]
    assert name in negations and len(set(negations)) == len(negations) == len(outputs.split())


def test_an_empty_attribute_is_one_of_integers(caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule(
        "scalar", op("Neg", var("x")), lambda m, new: new.op("Transpose", m["x"], attributes={"perm": []})
    )
    model = make_model([_node("Neg", "x", "n"), _node("Relu", "n", "y")], {"x": []}, ["y"])
    after, _ = apply(model, rule)
    assert [a.type for a in after.graph.node[0].attribute] == [onnx.AttributeProto.INTS]
    assert not caplog.records


def _with_if(then_nodes: list[onnx.NodeProto], outer: list[onnx.NodeProto], result: str) -> onnx.ModelProto:
    branches = {
        "then_branch": helper.make_graph(then_nodes, "then", [], [info(result, [2, 3])]),
        "else_branch": helper.make_graph([_node("Relu", "x", "e")], "else", [], [info("e", [2, 3])]),
    }
    graph = helper.make_graph(
        [*outer, helper.make_node("If", ["flag"], ["y"], "if", **branches)],
        "g",
        [info("x", [2, 3]), info("flag", [], TensorProto.BOOL)],
        [info("y", [2, 3])],
    )
    model = model_of(graph)
    onnx.checker.check_model(model)
    return model


def test_a_value_that_a_body_captures_has_another_user() -> None:
    model = _with_if([_node("Relu", "n", "t")], [_node("Neg", "x", "n"), _node("Abs", "n", "a")], "t")
    after, journal = apply(model, ABS_NEG)
    assert _ops(after) == ["Neg", "Abs", "If"]
    assert list(journal.declined.values()) == [Decline("Abs", "the result of Neg has other users")]


def test_a_node_outside_the_body_that_uses_it_is_not_absorbed() -> None:
    model = _with_if([_node("Abs", "n", "t")], [_node("Neg", "x", "n")], "t")
    after, journal = apply(model, ABS_NEG)
    assert _ops(after) == ["Neg", "If"]
    assert list(journal.declined.values()) == [Decline("Abs", "Neg lies outside the body that uses it")]


def test_rules_run_inside_bodies_and_outer_producers_die_with_their_last_user() -> None:
    model = _with_if([_node("Neg", "n", "m"), _node("Neg", "m", "k"), _node("Neg", "k", "t")],
                     [_node("Neg", "x", "n")], "t")  # fmt: skip
    shared = Rule(
        "neg_neg", op("Neg", op("Neg", var("x"), shared=True)), lambda m, new: new.op("Relu", m["x"])
    )
    after, journal = apply(model, shared)
    assert [each.at for each in journal.applied] == ["m", "t"]
    assert _ops(after) == ["If"]
    then = next(each for each in after.graph.node[0].attribute if each.name == "then_branch").g
    assert [(node.op_type, node.input[0]) for node in then.node] == [("Relu", "x"), ("Relu", "m")]


def test_a_body_output_that_is_an_outer_value_stays_a_node() -> None:
    """The result would be a value of the graph around the body, which cannot take the name."""
    model = _with_if([_node("Neg", "x", "m"), _node("Neg", "m", "t")], [], "t")
    after, journal = apply(model, NEG_NEG)
    assert after == ir.to_proto(ir.from_proto(model))
    assert list(journal.declined.values()) == [Decline("Neg", "the result is a graph output")]


def test_dead_producers_go_with_their_bodies_and_what_these_captured() -> None:
    """Dropping the right operand kills an If, and with it the Neg that only its body read."""
    model = _with_if([_node("Relu", "n", "t")], [_node("Neg", "x", "n")], "t")
    model.graph.node.append(_node("Sub", "x y", "z"))
    model.graph.output[0].name = "z"
    onnx.checker.check_model(model)
    drop = _rule("drop", op("Sub", var("a"), var("b")), "Abs", "a")
    after, _ = apply(model, drop)
    assert _ops(after) == ["Abs"]


@pytest.mark.parametrize("shape", ["chain", "middle"])
def test_an_existing_value_takes_the_name_of_a_graph_output(shape: str) -> None:
    nodes = [_node("Relu", "x", "r"), _node("Neg", "r", "n"), _node("Neg", "n", "y")]
    model = _chain(*nodes) if shape == "chain" else _chain(*nodes, _node("Abs", "r", "z"), outputs="y z")
    after, _ = apply(model, NEG_NEG)
    assert _ops(after) == (["Relu"] if shape == "chain" else ["Relu", "Abs"])
    assert [output.name for output in after.graph.output] == [output.name for output in model.graph.output]
    assert_same_answers(model, after)


def test_a_graph_input_or_output_cannot_take_the_name() -> None:
    for model in (
        _chain(_node("Neg", "x", "n"), _node("Neg", "n", "y")),
        _chain(_node("Relu", "x", "r"), _node("Neg", "r", "n"), _node("Neg", "n", "y"), outputs="r y"),
    ):
        after, journal = apply(model, NEG_NEG)
        assert after == ir.to_proto(ir.from_proto(model))
        assert list(journal.declined.values()) == [Decline("Neg", "the result is a graph output")]


def test_a_constant_cannot_be_a_graph_output() -> None:
    model = _chain(_node("Neg", "x", "y"))
    constant = Rule("constant", op("Neg", var("x")), lambda _m, new: new.const(_zeros()))
    _, journal = apply(model, constant)
    assert list(journal.declined.values()) == [Decline("Neg", "the result is a graph output")]


def _zeros() -> np.ndarray:
    return np.zeros((2, 3), np.float32)


_SPLIT = [_node("Split", "x", "a b", axis=0, num_outputs=2)]


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [("a b", "two graph outputs would be one value"), ("a", None)],
)
def test_one_value_for_two_outputs(outputs: str, reason: str | None) -> None:
    same = Rule("same", op("Split", var("x")), lambda m, new: [new.op("Relu", m["x"])] * 2)
    after, journal = apply(_chain(*_SPLIT, outputs=outputs, opset=18), same)
    assert [decline.reason for decline in journal.declined.values()] == ([reason] if reason else [])
    assert _ops(after) == (["Split"] if reason else ["Relu"])
    assert [output.name for output in after.graph.output] == outputs.split()


@pytest.mark.parametrize("outputs", ["a z", "z b"])
def test_one_value_for_two_outputs_of_which_one_is_a_graph_output(outputs: str) -> None:
    """The value keeps the graph output's name whichever output of the root comes first."""
    same = Rule("same", op("Split", var("x")), lambda m, new: [new.op("Relu", m["x"])] * 2)
    inner = (set("ab") - set(outputs.split())).pop()
    model = _chain(*_SPLIT, _node("Abs", inner, "z"), outputs=outputs, opset=18)
    after, _ = apply(model, same)
    assert _ops(after) == ["Relu", "Abs"]
    assert [output.name for output in after.graph.output] == outputs.split()


def test_several_outputs_are_replaced_each_by_its_own() -> None:
    model = _chain(*_SPLIT, _node("Abs", "b", "c"), outputs="a c", opset=18)

    def swap(m: Match, new: Builder) -> list[ir.Value]:
        return [new.op("Relu", m["x"]), new.op("Neg", m["x"])]

    after, _ = apply(model, Rule("swap", op("Split", var("x")), swap))
    assert [(node.op_type, node.output[0]) for node in after.graph.node] == [
        ("Relu", "a"),
        ("Neg", "b"),
        ("Abs", "c"),
    ]


def test_a_second_output_in_use_keeps_a_rule_for_one_output_out() -> None:
    model = _chain(*_SPLIT, outputs="a b", opset=18)
    after, journal = apply(model, _rule("first", op("Split", var("x")), "Relu", "x"))
    assert _ops(after) == ["Split"]
    assert list(journal.declined.values()) == [Decline("Split", "another output is used")]


def test_metadata_and_doc_strings_are_merged() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "y"))
    for node, text in zip(model.graph.node, ("inner", "root"), strict=True):
        node.doc_string = f"{text} doc"
        node.metadata_props.add(key=text, value="1")
        node.metadata_props.add(key="both", value=text)
    after, _ = apply(model, ABS_NEG)
    (node,) = after.graph.node
    assert {each.key: each.value for each in node.metadata_props} == {
        "inner": "1",
        "root": "1",
        "both": "root",
    }
    assert node.doc_string == "root doc"


def test_nodes_taken_out_of_a_body_keep_their_own_texts() -> None:
    model = _with_if([_node("Relu", "x", "t")], [], "t")
    model.graph.node[0].doc_string = "of the If"
    model.graph.node[0].metadata_props.add(key="who", value="if")
    then = next(each for each in model.graph.node[0].attribute if each.name == "then_branch").g
    then.node[0].doc_string = "of the Relu"
    then.node[0].metadata_props.add(key="who", value="relu")

    def inline(m: Match, new: Builder) -> list[ir.Value]:
        body = m.root.attributes["then_branch"].as_graph()
        results = list(body.outputs)
        new.adopt(body)
        return results

    after, _ = apply(model, Rule("inline", op("If", var("c")), inline))
    (node,) = after.graph.node
    assert (node.doc_string, [each.value for each in node.metadata_props]) == ("of the Relu", ["relu"])
    assert node.output[:] == ["y"]


def test_fresh_names_are_unique_over_all_graphs() -> None:
    """The names that the rule's nodes would get are taken: in the graph, and in a body."""
    model = _with_if(
        [_node("Neg", "x", "n_node/Relu_output_0"), _node("Neg", "n_node/Relu_output_0", "t")],
        [_node("Neg", "x", "n"), _node("Sigmoid", "n", "n_node/Relu"), _node("Add", "n n_node/Relu", "s")],
        "t",
    )
    rule = Rule("rule", op("Neg", var("x")), lambda m, new: new.op("Abs", new.op("Relu", m["x"])))
    after, journal = apply(model, rule)
    assert len(journal.applied) == 3
    names = [name for node in _all_nodes(after.graph) for name in node.output]
    assert len(names) == len(set(names))


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            found += _all_nodes(attribute.g)
    return found


def test_device_configurations_keep_out() -> None:
    model = _chain(_node("Neg", "x", "n"), _node("Abs", "n", "y"))
    model.ir_version = 11
    model.configuration.add(name="two", num_devices=2)
    model.graph.node[0].device_configurations.add(configuration_id="two")
    _, journal = apply(model, ABS_NEG)
    assert list(journal.declined.values()) == [Decline("Abs", "Neg has a device configuration")]


def _with_function(*nodes: onnx.NodeProto, attributes: tuple[str, ...] = ()) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["p"], ["q"], nodes, imports[:1], attributes)
    values: dict[str, Any] = dict.fromkeys(attributes, 1)
    call = helper.make_node("F", ["x"], ["y"], domain="local", **values)
    graph = helper.make_graph([call], "g", [info("x", [2, 3])], [info("y", [2, 3])])
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[function])


def test_reference_attributes_keep_out() -> None:
    softmax = helper.make_node("Softmax", ["p"], ["q"])
    softmax.attribute.add(name="axis", ref_attr_name="axis", type=onnx.AttributeProto.INT)
    model = _with_function(softmax, attributes=("axis",))
    _, journal = apply(model, _rule("soft", op("Softmax", var("x")), "Relu", "x"))
    assert list(journal.declined.values()) == [
        Decline("Softmax", "an attribute of Softmax is a parameter of the function")
    ]


def test_constants_in_functions_are_nodes() -> None:
    model = _with_function(helper.make_node("Neg", ["p"], ["q"], "neg"))
    rule = Rule("sub", op("Neg", var("x")), lambda m, new: new.op("Sub", new.const(_zeros()), m["x"]))
    after, _ = apply(model, rule)
    assert [node.op_type for node in after.functions[0].node] == ["Constant", "Sub"]
    assert not after.graph.initializer
    assert_same_answers(model, after)


def test_constants_in_bodies_are_initializers_of_the_body() -> None:
    model = _with_if([_node("Neg", "x", "t")], [], "t")
    rule = Rule("sub", op("Neg", var("x")), lambda m, new: new.op("Sub", new.const(_zeros()), m["x"]))
    after, _ = apply(model, rule)
    body = next(each for each in after.graph.node[0].attribute if each.name == "then_branch").g
    assert len(body.initializer) == 1
    assert not after.graph.initializer


def test_the_opset_of_the_function_is_told() -> None:
    model = _with_function(helper.make_node("Neg", ["p"], ["q"]))
    model.opset_import[0].version = 17
    seen = []

    def guard(m: Match) -> str:
        seen.append(m.opset)
        return ""

    _, journal = apply(model, Rule("look", op("Neg", var("x")), lambda m, _new: m["x"], guard))
    assert set(seen) == {18}
    assert journal.declined == {}


def test_refused_leaves_the_graph_as_it_was() -> None:
    model = _chain(_node("Neg", "x", "y"))
    after, journal = apply(model, REFUSING)
    assert after == ir.to_proto(ir.from_proto(model))
    assert list(journal.declined.values()) == [Decline("Neg", "not today")]


def test_the_next_way_of_matching_is_tried_after_a_decline() -> None:
    pattern = op("Add", any_of(op("Relu", var("x")), var("x")), var("z"))
    model = _chain(_node("Relu", "x", "r"), _node("Neg", "r", "n"), _node("Add", "r n", "y"))
    after, _ = apply(model, _rule("max", pattern, "Max", "x", "z"))
    assert _ops(after) == ["Relu", "Neg", "Max"]


def test_new_nodes_and_users_are_visited_again() -> None:
    """Four negations vanish in pairs: the second pair is only there once the first has gone."""
    names = "abcdef"
    nodes = [_node("Relu", "x", "a")]
    nodes += [_node("Neg", before, after) for before, after in itertools.pairwise(names)]
    model = _chain(*nodes[:5], _node("Abs", "e", "y"))
    after, journal = apply(model, NEG_NEG)
    assert _ops(after) == ["Relu", "Abs"]
    assert len(journal.applied) == 2


def test_a_new_node_with_a_new_body_is_visited() -> None:
    def wrap(m: Match, new: Builder) -> ir.Value:
        bodies = {}
        for name in ("then_branch", "else_branch"):
            result = ir.Node("", "Relu", (m["x"],), name=f"{name}_relu").outputs[0]
            result.name, result.type = f"{name}_result", ir.TensorType(ir.DataType.FLOAT)
            result.shape = ir.Shape([2, 3])
            node = result.producer()
            assert node is not None
            bodies[name] = ir.AttrGraph(name, ir.Graph([], [result], nodes=[node], name=name))
        return new.op("If", m["flag"], attributes=bodies)

    graph = helper.make_graph(
        [_node("Where", "flag x x", "y")],
        "g",
        [info("x", [2, 3]), info("flag", [], TensorProto.BOOL)],
        [info("y", [2, 3])],
    )
    rules = (
        Rule("wrap", op("Where", var("flag"), var("x"), var("x")), wrap),
        _rule("abs", op("Relu", var("x")), "Abs", "x"),
    )
    after, journal = apply(model_of(graph), *rules)
    assert [node.op_type for node in _all_nodes(after.graph)] == ["If", "Abs", "Abs"]
    assert len(journal.applied) == 3


def test_ping_pong_ends_and_names_the_rules() -> None:
    there = _rule("there", op("Abs", var("x")), "Relu", "x")
    back = _rule("back_again", op("Relu", var("x")), "Abs", "x")
    with pytest.raises(RewriteError, match=r"there.*back_again|back_again.*there") as caught:
        apply(_chain(_node("Abs", "x", "y")), there, back)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["guard", "replace"])
def test_a_rule_that_raises_is_named(part: str) -> None:
    def fail(*_: object) -> ir.Value:
        raise KeyError("first line\nsecond line")

    rule = Rule("clumsy", op("Abs", var("x")), fail if part == "replace" else lambda m, _new: m["x"])
    if part == "guard":
        rule = Rule("clumsy", op("Abs", var("x")), lambda m, _new: m["x"], fail)  # type: ignore[arg-type]
    with pytest.raises(RewriteError, match=r"rule clumsy failed at 'y' .*KeyError.*--skip clumsy") as caught:
        apply(_chain(_node("Abs", "x", "y")), rule)
    assert "\n" not in str(caught.value)


def test_limit_and_denial_replay_a_run() -> None:
    nodes = [_node("Abs", "x", "a"), _node("Abs", "a", "b"), _node("Abs", "b", "y")]
    rule = _rule("relu", op("Abs", var("x")), "Relu", "x")
    _, whole = apply(_chain(*nodes), rule)
    assert [each.at for each in whole.applied] == ["a", "b", "y"]
    after, limited = apply(_chain(*nodes), rule, journal=Journal(limit=2))
    assert limited.applied == whole.applied[:2]
    assert _ops(after) == ["Relu", "Relu", "Abs"]
    after, denied = apply(_chain(*nodes), rule, journal=Journal(denied=frozenset(whole.applied[1:2])))
    assert _ops(after) == ["Relu", "Abs", "Relu"]
    assert denied.applied == [whole.applied[0], whole.applied[2]]


def test_a_shared_constant_is_not_absorbed_or_changed() -> None:
    model = make_model(
        [_node("Mul", "x w", "a"), _node("Add", "a w", "y")], {"x": [2, 3]}, ["y"], {"w": _zeros() + 2}
    )

    def scale(m: Match, new: Builder) -> ir.Value:
        return new.op("Div", m["x"], new.const(1 / m.array("w").astype(np.float32), m["w"]))

    rule = Rule("scale", op("Mul", var("x"), const("w")), scale)
    after, _ = apply(model, rule)
    assert sorted(tensor.name for tensor in after.graph.initializer) == ["w", "w_folded"]
    assert_same_answers(model, after)
