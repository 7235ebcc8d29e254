"""hoist_gelu_half: the spellings that onnxruntime does not know become the one that it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from tests.helpers import f32, node
from tests.passes.fusions import (
    SPECIAL,
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "hoist_gelu_half"
DIMS = ("batch", 3, 8)
DIVIDED = (node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "g"))
MULTIPLIED = (node("Mul", "x root", "d"), *DIVIDED[1:])
WEIGHTS = {"root": f32(np.sqrt(2)), "one": f32(1), "half": f32(0.5)}
GATE_HALVED = (node("Mul", "half g", "m"), node("Mul", "x m", "y"))
X_HALVED = (node("Mul", "x half", "m"), node("Mul", "m g", "y"))
HALVED_LAST = (node("Mul", "x g", "m"), node("Mul", "m half", "y"))
LEFT = {"Div": 1, "Erf": 1, "Add": 1, "Mul": 2}


def spelled(*nodes: onnx.NodeProto, **weights: np.ndarray) -> Spelling:
    return Spelling(nodes, {**WEIGHTS, **weights})


SPELLINGS = {
    "gate halved": spelled(*DIVIDED, *GATE_HALVED),
    "gate halved by Div": spelled(*DIVIDED, node("Div", "g half", "m"), node("Mul", "x m", "y"), half=f32(2)),
    "divided by 2": spelled(*DIVIDED, node("Mul", "x g", "m"), node("Div", "m half", "y"), half=f32(2)),
    "x divided by 2": spelled(*DIVIDED, node("Div", "x half", "m"), node("Mul", "m g", "y"), half=f32(2)),
    "multiplied by the root": spelled(*MULTIPLIED, *X_HALVED, root=f32(np.sqrt(0.5))),
    "multiplied, gate halved": spelled(*MULTIPLIED, *GATE_HALVED, root=f32(np.sqrt(0.5))),
    "multiplied, halved last": spelled(*MULTIPLIED, *HALVED_LAST, root=f32(np.sqrt(0.5))),
}
GATED = SPELLINGS["gate halved"]


def run_by_onnxruntime(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators that onnxruntime makes of a model at its default level."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [each.op_type for each in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_onnxruntime_then_knows_it(spelling: Spelling, commuted: bool, tmp_path: Path) -> None:
    model = (spelling.commuted() if commuted else spelling).model(DIMS)
    assert "Gelu" not in run_by_onnxruntime(model, tmp_path)
    after = assert_fuses(model, RULE, leaves=LEFT)
    assert run_by_onnxruntime(after.model, tmp_path) == ["Gelu"]


@pytest.mark.parametrize("ends", [X_HALVED, HALVED_LAST])
def test_keeps_what_onnxruntime_knows(ends: tuple[onnx.NodeProto, ...], tmp_path: Path) -> None:
    model = spelled(*DIVIDED, *ends).model(DIMS)
    assert run_by_onnxruntime(model, tmp_path) == ["Gelu"]
    assert_stays(model, RULE, "")


def test_keeps_what_is_not_a_number() -> None:
    assert_fuses(GATED.model((8,)), RULE, leaves=LEFT, feeds={"x": SPECIAL})


def test_fires_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(GATED, RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(GATED, RULE, DIMS, 17)


def test_leaves_opset_20_to_gelu() -> None:
    assert_stays(GATED.model(DIMS, opset=20), RULE, "from opset 20 on there is Gelu")


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_keeps_out_of_other_dtypes(dtype: int) -> None:
    assert_stays(GATED.model(DIMS, dtype=dtype), RULE, "onnxruntime fuses float32 alone")


@pytest.mark.parametrize("name", WEIGHTS)
def test_keeps_out_of_other_constants(name: str) -> None:
    spelling = spelled(*DIVIDED, *GATE_HALVED, **{name: WEIGHTS[name] * np.float32(1.001)})
    assert_stays(spelling.model(DIMS), RULE, "other constants")


def test_keeps_out_of_overridable_constants() -> None:
    assert_stays(GATED.model(DIMS, overridable=["half"]), RULE, "")
