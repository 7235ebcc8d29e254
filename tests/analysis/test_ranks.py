"""annotate: the rank of a Conv whose input is unknown, and of a Reshape whose target is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from fuseonnx.analysis.shapes import annotate
from tests.helpers import make_model, run_reference


def test_a_weight_gives_rank_and_channels() -> None:
    lower = helper.make_graph(
        [helper.make_node("Squeeze", ["x", "first"], ["a"])],
        "lower",
        [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4, 6])],
    )
    higher = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])],
        "higher",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 1, 4, 6])],
    )
    nodes = [
        helper.make_node("If", ["condition"], ["of_unknown_rank"], then_branch=lower, else_branch=higher),
        helper.make_node("Conv", ["of_unknown_rank", "w"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Shape", ["relu"], ["shape"]),
    ]
    weights = {
        "w": np.random.default_rng(0).normal(size=(8, 4, 3)).astype(np.float32),
        "first": np.array([0]),
        "condition": np.array(True),
    }
    model = make_model(nodes, {"x": [1, 1, 4, 6]}, ["shape"], weights)
    loaded = ir.from_proto(model)
    for _ in range(2):  # the type of the input is known from the first time on
        annotate(loaded)
    shapes = {value.name: value.shape for node in loaded.graph for value in node.outputs}
    assert shapes["of_unknown_rank"] is None
    relu = shapes["relu"]
    assert relu is not None
    feeds = {"x": np.ones((1, 1, 4, 6), dtype=np.float32)}
    assert run_reference(model, feeds)["shape"].tolist() == [1, 8, 4]
    assert len(relu) == 3
    assert relu[1] == 8


def test_a_target_gives_the_rank() -> None:
    nodes = [
        helper.make_node("Cast", ["sizes"], ["target"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
        helper.make_node("Relu", ["y"], ["relu"]),
        helper.make_node("Shape", ["relu"], ["shape"]),
    ]
    weights = {"sizes": np.array([3, 2, 2], dtype=np.int32)}
    model = make_model(nodes, {"x": [12]}, ["shape"], weights, overridable=["sizes"])
    loaded = ir.from_proto(model)
    for _ in range(2):  # the length of the target is known from the first time on
        annotate(loaded)
    relu = next(node.outputs[0].shape for node in loaded.graph if node.op_type == "Relu")
    assert relu is not None
    assert run_reference(model, {"x": np.ones(12, dtype=np.float32)})["shape"].tolist() == [3, 2, 2]
    assert len(relu) == 3
