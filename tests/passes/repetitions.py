"""Shared by the tests of Loop and Scan: bodies, a model around them, every course that a Loop can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import IR_VERSION, Feeds, all_nodes, assert_same_answers, f32, node, rewrite

Nodes = Sequence[onnx.NodeProto]
PASS = node("Identity", "go", "again")
WEIGHT = f32([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5], [-2.0, 1.0, 1.0]])


def feeds(times: int = 3, *, flag: bool = True) -> Feeds:
    return {"x": f32([[1, -2, 3]]), "v": WEIGHT.T.copy(), "times": np.array(times), "flag": np.array(flag)}


EVERY_COURSE = [feeds(3), feeds(1), feeds(0), feeds(5, flag=False)]


def body_of(
    nodes: Nodes, inputs: str, results: str, weights: Mapping[str, Any] | None = None
) -> onnx.GraphProto:
    """A body; `i` counts, `go` and `again` are conditions, everything else holds floats."""
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "again": TensorProto.BOOL}

    def infos(names: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(
                name,
                kinds.get(name.rstrip("_"), TensorProto.FLOAT),
                [] if name.rstrip("_") in kinds else None,
            )
            for name in names.split()
        ]

    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    return helper.make_graph(list(nodes), "body", infos(inputs), infos(results), tensors)


def loop(inputs: str, outputs: str, body: onnx.GraphProto, **more: Any) -> onnx.NodeProto:
    """A Loop; "-" is an input that is absent."""
    given = ["" if each == "-" else each for each in inputs.split()]
    return helper.make_node("Loop", given, outputs.split(), body=body, **more)


def model_of(
    nodes: Nodes,
    outputs: str,
    weights: Mapping[str, Any] | None = None,
    *,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of x [1, 3], v [3, 3], `times` and `flag`, with constants w0 [3, 3], `yes`, `n3` and `weights`.

    An output is a float matrix, or of the rank that follows its name: "z:3".
    """
    constants = {"yes": np.array(True), "n3": np.array(3), "w0": WEIGHT, **(weights or {})}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [3, 3]),
            helper.make_tensor_value_info("times", TensorProto.INT64, []),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * int(rank or "2"))
            for name, _, rank in (each.partition(":") for each in outputs.split())
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("test", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, functions=list(functions))
    onnx.checker.check_model(model)
    return model


def loops_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [each for each in all_nodes(model.graph) if each.op_type in ("Loop", "Scan")]


def assert_same_courses(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Assert that no course of the Loop tells the models apart."""
    for each in EVERY_COURSE:
        assert_same_answers(before, after, each)


def assert_fires(model: onnx.ModelProto, rule: str, times: int = 1) -> onnx.ModelProto:
    """Assert that a rule fires, alone and with the others, and leaves the answers alone."""
    after, everything = rewrite(model, rule), rewrite(model)
    assert after.fired[rule] == times
    assert_same_courses(model, after.model)
    assert_same_courses(model, everything.model)
    assert rewrite(after.model, rule).fired == {}
    assert rewrite(everything.model).fired == {}
    return after.model
