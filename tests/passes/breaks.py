"""Shared by the tests of folds: the preconditions that all of them have, each broken once.

A break returns a model, and why the fold keeps out of it ("" if its pattern does not even match).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.passes.folds import Layer, Tail, build, renamed

Break = Callable[[Layer, Tail], tuple[onnx.ModelProto, str]]


def used_twice(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    relu = helper.make_node("Relu", ["c"], ["other"])
    return build(
        layer, tail, more=[relu], outputs=["y", "other"]
    ), f"the result of {layer.op} has other users"


def is_graph_output(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    return build(layer, tail, outputs=["y", "c"]), f"the result of {layer.op} is a graph output"


def captured_by_body(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["c"], [name])], name, [], [onnx.ValueInfoProto(name=name)]
        )
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    more = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["other"], **branches),
    ]
    model = build(layer, tail, more=more, outputs=["y", "other"], weights={"zero": np.zeros((), np.float32)})
    return model, f"the result of {layer.op} has other users"


def weight_is_input(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    return build(layer, tail, inputs={"w": layer.weights["w"].shape}), ""


def weight_is_overridable(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    return build(layer, tail, overridable=["w"]), ""


def constant_is_input(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    name = next(iter(tail.weights))
    return build(layer, tail, inputs={name: tail.weights[name].shape}), ""


def constant_is_overridable(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    return build(layer, tail, overridable=[next(iter(tail.weights))]), ""


def weight_is_shared(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    twins = [renamed(node, "twin_", keep={"x", *layer.weights}) for node in layer.nodes]
    return build(layer, tail, more=twins, outputs=["y", "twin_c"]), "the weights are shared"


def weight_overflows(layer: Layer, tail: Tail) -> tuple[onnx.ModelProto, str]:
    weights = {"w": layer.weights["w"] * np.float32(1e4)}
    name = next(iter(tail.weights))
    weights[name] = tail.weights[name] * np.float32(20 if tail.node.op_type != "Div" else 0.01)
    reason = "the folded weights do not fit float16"
    return build(layer, tail, weights=weights, dtype=TensorProto.FLOAT16), reason


BREAKS: tuple[Break, ...] = (
    used_twice,  # the others would see folded values
    is_graph_output,  # so would the caller
    captured_by_body,  # and the body
    weight_is_input,  # its values come with each run
    weight_is_overridable,  # they may
    constant_is_input,
    constant_is_overridable,
    weight_is_shared,  # it would be stored twice
    weight_overflows,  # half precision cannot hold the product
)
