"""GPU_STEPS: all of them on one model."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from fuseonnx.core.rule import Rule
from fuseonnx.passes import FORMS, GPU_STEPS
from tests.helpers import assert_same_answers, make_model, node
from tests.passes.forms import rewrite_form
from tests.passes.gpu import without_cuda_kernel

NODES = [
    node("Celu", "x", "celu", alpha=0.5),
    node("Elu", "celu", "elu"),
    node("MeanVarianceNormalization", "elu", "mvn", axes=[0, 2, 3]),
    node("InstanceNormalization", "mvn g b", "instance"),
    node("Tan", "x", "tan"),
    node("Mean", "instance tan x", "mean"),
    node("Hardmax", "mean", "hard"),
    node("Cast", "hard", "whole", to=TensorProto.INT32),
    node("Clip", "whole low", "clipped"),
]
WEIGHTS = {
    "g": np.array([0.5, -2, 3], np.float32),
    "b": np.array([1, 0, -1], np.float32),
    "low": np.array(1, np.int32),
}


@pytest.mark.parametrize("opset", [18, 22])
def test_nothing_is_left_that_has_no_kernel(opset: int) -> None:
    model = make_model(NODES, {"x": ("n", 3, 5, 6)}, ["mean", "clipped"], WEIGHTS, opset=opset)
    no_kernel = ["Celu", "MeanVarianceNormalization", "Tan", "Mean", "Hardmax", "Clip"]
    since_22 = ["Elu", "InstanceNormalization"] if opset >= 22 else []
    assert sorted(without_cuda_kernel(model)) == sorted(no_kernel + since_22)
    after = rewrite_form(model, *GPU_STEPS)
    assert without_cuda_kernel(after.model) == []
    assert sum(after.fired.values()) == len(no_kernel + since_22)
    assert_same_answers(model, after.model)


def test_target_cuda_tries_each() -> None:
    assert set(GPU_STEPS) <= set(FORMS["cuda"])
    assert all(isinstance(step, Rule) and step.doc for step in GPU_STEPS)
    assert not set(GPU_STEPS) & {*FORMS["cpu"], *FORMS["portable"], *FORMS["tensorrt"]}
