"""Shared by the tests of rewrites of If: build branches, Ifs on a condition of the input, and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, make_model, node

DIMS = ("batch", 4)
Nodes = Sequence[onnx.NodeProto]
COMPARE = (node("ReduceSum", "x", "sum", keepdims=0), node("Less", "sum zero", "negative"))
"""x [batch, 4] is `negative` if its elements add up to less than 0."""


def branch(nodes: Nodes, outputs: str, weights: Mapping[str, np.ndarray] | None = None) -> onnx.GraphProto:
    """A body without inputs, whose outputs are like x."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMS) for name in outputs.split()]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    return helper.make_graph(list(nodes), "branch", [], infos, tensors)


def choice(
    outputs: str, then: onnx.GraphProto, other: onnx.GraphProto, *, on: str = "negative"
) -> onnx.NodeProto:
    """An If."""
    return node("If", on, outputs, then_branch=then, else_branch=other, name=f"choice of {outputs}")


def model_of(nodes: Nodes, outputs: str, weights: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A model that compares x first."""
    zero = {"zero": np.array(0, np.float32)}
    return make_model([*COMPARE, *nodes], {"x": DIMS}, outputs.split(), {**zero, **(weights or {})})


def assert_same_on_both_sides(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Assert that two models agree whichever branch they take."""
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for shift in (-5, 5):
        assert_same_answers(before, after, {"x": (x + shift).astype(np.float32)})


def step(nodes: Nodes, carried: Sequence[str], results: Sequence[str]) -> onnx.GraphProto:
    """The body of a Loop that goes on for ever, as far as it decides; it carries float tensors."""
    infos = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMS) for name in carried),
    ]
    goes_on = node("Identity", "on", "go")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMS) for name in results]
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    return helper.make_graph([goes_on, *nodes], "step", infos, [go, *outputs])
