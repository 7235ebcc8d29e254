"""Patterns: what matches, in which order of operands, and how the search turns back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from fuseonnx.core.pattern import (
    ANY_OP,
    COMMUTATIVE,
    Captures,
    Pattern,
    Root,
    any_of,
    const,
    match_root,
    maybe,
    op,
    root_types,
    var,
)


def _value(name: str) -> ir.Value:
    return ir.Value(name=name)


def _constant(name: str) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.Tensor(np.ones(2, np.float32)))
    ir.Graph([], [], nodes=[], initializers=[value])
    return value


def _node(op_type: str, *inputs: ir.Value | None, outputs: int = 1, domain: str = "") -> ir.Node:
    return ir.Node(domain, op_type, inputs, num_outputs=outputs)


def _matches(pattern: Root, node: ir.Node) -> list[Captures]:
    return list(match_root(pattern, node))


X, Y, W = _value("x"), _value("y"), _constant("w")


@pytest.mark.parametrize("op_type", sorted(COMMUTATIVE))
def test_commutative_operators_match_in_both_orders(op_type: str) -> None:
    pattern = op(op_type, var("x"), const("c"))
    for inputs in ((X, W), (W, X)):
        (found,) = _matches(pattern, _node(op_type, *inputs))
        assert found.values == {"x": X, "c": W}


@pytest.mark.parametrize("op_type", ["Sub", "Div", "Pow", "MatMul", "Gather", "Less", "Concat"])
def test_other_operators_match_in_one_order(op_type: str) -> None:
    pattern = op(op_type, var("x"), const("c"))
    assert _matches(pattern, _node(op_type, X, W))
    assert not _matches(pattern, _node(op_type, W, X))


def test_nested_commutative_orders_multiply() -> None:
    pattern = op("Add", op("Mul", var("a"), const("b")), const("c"))
    for inner in ((X, W), (W, X)):
        mul = _node("Mul", *inner).outputs[0]
        for outer in ((mul, W), (W, mul)):
            (found,) = _matches(pattern, _node("Add", *outer))
            assert found.values == {"a": X, "b": W, "c": W}
            assert found.absorbed == (mul.producer(),)


def test_a_name_used_twice_is_one_value() -> None:
    pattern = op("Mul", var("x"), op("Sigmoid", var("x")))
    sigmoid = _node("Sigmoid", X).outputs[0]
    assert _matches(pattern, _node("Mul", X, sigmoid))
    assert _matches(pattern, _node("Mul", sigmoid, X))
    assert not _matches(pattern, _node("Mul", Y, sigmoid))


def test_a_node_name_used_twice_is_one_node() -> None:
    pattern = op("Add", op("Relu", var("x"), name="r"), op("Relu", var("y"), name="r"))
    first, second = _node("Relu", X).outputs[0], _node("Relu", X).outputs[0]
    assert _matches(pattern, _node("Add", first, first))
    assert not _matches(pattern, _node("Add", first, second))


def test_maybe_binds_absent_inputs_to_none() -> None:
    pattern = op("Conv", var("x"), const("w"), maybe(const("b")))
    for inputs, bias in (((X, W), None), ((X, W, None), None), ((X, W, W), W)):
        (found,) = _matches(pattern, _node("Conv", *inputs))
        assert found.values == {"x": X, "w": W, "b": bias}
    assert not _matches(pattern, _node("Conv", X, W, X))


def test_absent_input_in_the_middle() -> None:
    pattern = op("Clip", var("x"), maybe(const("low")), maybe(const("high")))
    (found,) = _matches(pattern, _node("Clip", X, None, W))
    assert found.values == {"x": X, "low": None, "high": W}
    assert not _matches(op("Clip", var("x"), var("low"), var("high")), _node("Clip", X, None, W))


def test_more_inputs_than_patterns_do_not_match() -> None:
    assert not _matches(op("Sum", var("a"), var("b")), _node("Sum", X, Y, W))
    assert not _matches(op("Relu", var("a")), _node("Relu", X, Y))
    assert _matches(op("Clip", var("a")), _node("Clip", X, None, None))


def test_any_of_turns_back_to_a_later_alternative() -> None:
    """The first alternative matches the left operand, and only then the name on the right does not fit."""
    pattern = op("Sub", any_of(op("Relu", var("x")), var("x")), var("x"))
    relu = _node("Relu", X).outputs[0]
    assert [found.values["x"] for found in _matches(pattern, _node("Sub", relu, X))] == [X]
    assert [found.values["x"] for found in _matches(pattern, _node("Sub", relu, relu))] == [relu]


def test_any_of_at_the_root_yields_every_way() -> None:
    pattern = any_of(op("Add", var("x"), const("c")), op("Sub", var("x"), const("c")))
    assert root_types(pattern) == {"Add", "Sub"}
    assert len(_matches(pattern, _node("Add", X, W))) == 1
    assert len(_matches(pattern, _node("Sub", X, W))) == 1
    assert not _matches(pattern, _node("Mul", X, W))


def test_two_vars_of_a_commutative_operator_match_twice() -> None:
    found = _matches(op("Add", var("a"), var("b")), _node("Add", X, Y))
    assert [each.values for each in found] == [{"a": X, "b": Y}, {"a": Y, "b": X}]


def test_each_holds_for_any_number_of_inputs() -> None:
    pattern = op(ANY_OP, each=const(""))
    assert _matches(pattern, _node("Concat", W, W, W))
    assert _matches(pattern, _node("Clip", W, None, W))
    assert not _matches(pattern, _node("Concat", W, X, W))
    assert _matches(op("Concat", each=var("")), _node("Concat", W, X))


def test_several_types_and_any() -> None:
    pattern = op(("Relu", "Sigmoid"), var("x"))
    assert root_types(pattern) == {"Relu", "Sigmoid"}
    assert _matches(pattern, _node("Sigmoid", X))
    assert _matches(op(ANY_OP, var("x")), _node("Whatever", X))


def test_other_domains_never_match() -> None:
    assert not _matches(op("Relu", var("x")), _node("Relu", X, domain="custom"))
    inner = _node("Relu", X, domain="custom").outputs[0]
    assert not _matches(op("Neg", op("Relu", var("x"))), _node("Neg", inner))
    assert _matches(op("Relu", var("x")), _node("Relu", X, domain="ai.onnx"))


def test_only_the_first_output_of_a_node_is_an_operator() -> None:
    split = _node("Split", X, outputs=2)
    pattern = op("Neg", op("Split", var("x")))
    assert _matches(pattern, _node("Neg", split.outputs[0]))
    assert not _matches(pattern, _node("Neg", split.outputs[1]))


def test_shared_nodes_are_not_absorbed() -> None:
    relu = _node("Relu", X)
    for shared in (False, True):
        pattern = op("Neg", op("Relu", var("x"), name="r", shared=shared))
        (found,) = _matches(pattern, _node("Neg", relu.outputs[0]))
        assert found.absorbed == (() if shared else (relu,))
        assert found.nodes == {"r": relu}


@pytest.mark.parametrize("pattern", [var("a"), const("a"), maybe(op("Relu", var("x")))])
def test_a_rule_is_rooted_at_an_operator(pattern: Pattern) -> None:
    with pytest.raises(AssertionError, match="rooted at an operator"):
        _matches(any_of(pattern), _node("Relu", X))


def test_an_initializer_that_is_an_input_is_no_constant() -> None:
    value = ir.Value(name="w", const_value=ir.Tensor(np.ones(2, np.float32)))
    graph = ir.Graph([value], [], nodes=[], initializers=[value])
    assert graph.initializers["w"] is value
    assert not _matches(op("Relu", const("c")), _node("Relu", value))
    assert _matches(op("Relu", var("c")), _node("Relu", value))
