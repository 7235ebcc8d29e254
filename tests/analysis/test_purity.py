"""Purity: what may be computed once, or only once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from fuseonnx.analysis.purity import is_deterministic
from tests.io.models import info, model_of


def _node(op_type: str, domain: str = "", **attributes: Any) -> ir.Node:
    return ir.serde.deserialize_node(helper.make_node(op_type, ["x"], ["y"], domain=domain, **attributes))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("RandomNormal", {"shape": [50]}),
        ("RandomUniform", {"shape": [50]}),
        ("RandomNormalLike", {}),
        ("RandomUniformLike", {}),
        ("Multinomial", {"sample_size": 50}),
        ("Bernoulli", {}),
    ],
)
def test_random_operators_differ_from_run_to_run(op_type: str, attributes: dict[str, Any]) -> None:
    assert not is_deterministic(_node(op_type, **attributes))
    inputs = [] if "shape" in attributes else ["x"]
    dtype = 6 if op_type == "Multinomial" else 1
    output = helper.make_tensor_value_info("y", dtype, None)
    node = helper.make_node(op_type, inputs, ["y"], **attributes)
    model = model_of(helper.make_graph([node], "g", [info("x", [2, 40])], [output]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": np.full((2, 40), 0.5, np.float32)}
    first, second = (session.run(None, feeds)[0] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("op_type", ["Relu", "Conv", "Identity", "LSTM", "NonZero", "BatchNormalization"])
def test_ordinary_operators(op_type: str) -> None:
    assert is_deterministic(_node(op_type))
    assert is_deterministic(_node(op_type, domain="ai.onnx"))
    assert not is_deterministic(_node(op_type, domain="custom"))


def test_dropout_may_train() -> None:
    assert not is_deterministic(_node("Dropout"))


@pytest.mark.parametrize(("inner", "expected"), [("Relu", True), ("RandomNormalLike", False)])
def test_a_body_is_as_pure_as_what_is_in_it(inner: str, expected: bool) -> None:
    innermost = helper.make_graph([helper.make_node(inner, ["x"], ["b"])], "inner", [], [info("b", [3])])
    pure = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "pure", [], [info("b", [3])])
    nested = helper.make_node("If", ["flag"], ["a"], then_branch=pure, else_branch=innermost)
    outer = helper.make_graph([nested], "outer", [], [info("a", [3])])
    assert is_deterministic(_node("If", then_branch=pure, else_branch=outer)) is expected
