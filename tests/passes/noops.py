"""Shared by the tests of rules that drop nodes: the places in which such nodes can stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers import Feeds, assert_same_answers, make_model, rewrite

PLACES = ("in the middle", "with other users", "as a graph output", "in a body")
Dims = Sequence[int | str | None]


def identity(source: str, target: str) -> onnx.NodeProto:
    """Return a node that passes a value of any type on."""
    return helper.make_node("Identity", [source], [target])


def place(
    where: str,
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    weights: Mapping[str, np.ndarray],
    *,
    opset: int,
    dtype: int,
) -> onnx.ModelProto:
    """Build a model with the nodes, which lead from x to y, in one of `PLACES`."""
    feed = identity("in", "x")
    if where == "in the middle":
        graph, outputs = [feed, *nodes, identity("y", "out")], ["out"]
    elif where == "with other users":
        users = [identity("x", "out1"), identity("y", "out2"), identity("y", "out3")]
        graph, outputs = [feed, *nodes, *users], ["out1", "out2", "out3"]
    elif where == "as a graph output":
        graph, outputs = [feed, *nodes], ["y"]
    else:
        taken = [identity("in", "x"), *nodes, identity("y", "taken")]
        branches = {
            "then_branch": _branch(taken, "taken", dims, dtype),
            "else_branch": _branch([identity("in", "other")], "other", dims, dtype),
        }
        graph, outputs = [helper.make_node("If", ["condition"], ["out"], **branches)], ["out"]
        weights = {**weights, "condition": np.array(True)}
    return make_model(graph, {"in": dims}, outputs, weights, opset=opset, dtype=dtype)


def assert_dropped(
    rule: str,
    where: str,
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    feeds: Feeds | None = None,
    leaves: Mapping[str, int] | None = None,
) -> None:
    """Assert that the rule drops the nodes, which lead from x to y, but for what it `leaves`."""
    model = place(where, nodes, dims, weights or {}, opset=opset, dtype=dtype)
    after = rewrite(model, rule)
    assert after.fired == {rule: 1}
    assert {op: count for op, count in after.ops.items() if op not in ("Identity", "If")} == (leaves or {})
    assert [output.name for output in after.model.graph.output] == [x.name for x in model.graph.output]
    assert_same_answers(model, after.model, feeds)


def assert_kept(
    rule: str,
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    reason: str,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    outputs: Sequence[str] = ("out",),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    overridable: Sequence[str] = (),
) -> None:
    """Assert that the rule keeps the nodes, which lead from x to y, for the reason ("" if it gives none)."""
    graph = [identity("in", "x"), *nodes, identity("y", "out")]
    model = make_model(
        graph, {"in": dims}, outputs, weights, opset=opset, dtype=dtype, overridable=overridable
    )
    after = rewrite(model, rule)
    assert after.fired == {}
    assert after.declined == ({rule: {reason: 1}} if reason else {})


def assert_kept_between_input_and_output(
    rule: str,
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
) -> None:
    """Assert that the nodes stay between a graph input x and a graph output y: both keep their names."""
    model = make_model(nodes, {"x": dims}, ["y"], weights, opset=opset, dtype=dtype)
    after = rewrite(model, rule)
    assert after.fired == {}
    assert after.declined == {rule: {"the result is a graph output": 1}}


def _branch(nodes: Sequence[onnx.NodeProto], output: str, dims: Dims, dtype: int) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info(output, dtype, dims)])
