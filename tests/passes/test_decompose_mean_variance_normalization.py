"""decompose_mean_variance_normalization: its axes, digits beside a large mean, and a constant channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from fuseonnx.analysis.shapes import annotate
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import Stage
from fuseonnx.passes.decompose_mean_variance_normalization import RULE
from tests.helpers import make_model, node, random_feeds, run_reference
from tests.passes.forms import assert_stays, rewrite_form
from tests.passes.gpu import assert_moves


def normalized(
    axes: Sequence[int] | None = None, opset: int = 17, dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """MeanVarianceNormalization of x: [n, 4, 5, 6].

    onnx cannot infer the shapes of one without axes, so that they are taken away afterwards.
    """
    nodes = [node("MeanVarianceNormalization", "x", "y", axes=axes or [0, 2, 3])]
    model = make_model(nodes, {"x": ("n", 4, 5, 6)}, ["y"], opset=opset, dtype=dtype)
    if axes is None:
        model.graph.node[0].ClearField("attribute")
    return model


@pytest.mark.parametrize("opset", [9, 13, 17, 18, 22])
@pytest.mark.parametrize("axes", [None, [0, 2, 3], [0, 1, 2, 3]])
def test_fires(opset: int, axes: list[int] | None) -> None:
    after = assert_moves(normalized(axes, opset), RULE)
    assert after.ops == {"ReduceMean": 2, "Sub": 1, "Mul": 1, "Sqrt": 1, "Add": 1, "Div": 1}


def test_a_large_mean_costs_no_digits() -> None:
    model = normalized()
    feeds = {"x": random_feeds(model)["x"] + np.float32(1000)}
    assert_moves(model, RULE, feeds=feeds, rtol=1e-4)


def test_a_constant_channel_becomes_zero() -> None:
    """As the specification has it; onnxruntime's kernel leaves out the 1e-9, and divides 0 by 0."""
    model = normalized()
    feeds = random_feeds(model)
    feeds["x"][:, 1] = 2.0
    found = run_reference(rewrite_form(model, RULE).model, feeds)["y"]
    expected = run_reference(model, feeds)["y"]
    assert np.isnan(expected[:, 1]).all() and not found[:, 1].any()
    others = [0, 2, 3]
    np.testing.assert_allclose(found[:, others], expected[:, others], rtol=0, atol=1e-5)


def test_float16_is_computed_in_float32() -> None:
    model = normalized(dtype=TensorProto.FLOAT16)
    assert assert_moves(model, RULE, rtol=1e-3).ops["Cast"] == 2


def test_keeps_out_of_another_operator_of_the_name() -> None:
    """One that onnx's checker does not know."""
    reason = "onnxruntime has another MeanVarianceNormalization before opset 9"
    model = normalized()
    model.opset_import[0].version = 8
    changed, journal = ir.from_proto(model), Journal()
    pipeline.run(changed, (Stage("forms", (RULE,)),), journal, analyse=annotate)
    assert [use.declined for use in journal.uses() if use.name == RULE.name] == [{reason: 1}]


def test_keeps_out_of_doubles() -> None:
    reason = "onnxruntime has no MeanVarianceNormalization of this dtype"
    assert_stays(normalized([0, 2, 3], dtype=TensorProto.DOUBLE), RULE, reason)
