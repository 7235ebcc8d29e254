"""spell_rms_normalization: the spellings that change, what onnxruntime makes of them, and what stays."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from tests.helpers import all_nodes, f32, node, rewrite
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)
from tests.passes.normalizations import ROOTS, over_root_mean_square

RULE = "spell_rms_normalization"
DIMS = ("batch", 5, 8)
GAMMA = f32([1, -2, 3, 0.5, 1.5, -1, 2, 0.1])
LEAVES = {"Pow": 1, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1, "Mul": 1}
SPELLINGS = [(root, square) for root in ROOTS for square in ("Mul", "Pow")]
KNOWN = ("divided by Sqrt", "Pow")
FUSED_AS_WELL = ("times one over Sqrt", "Pow")


def spelled(
    root: str = "times Reciprocal", square: str = "Pow", *, opset: int = 17, axis: int = -1
) -> Spelling:
    """The result of a spelling, times gamma."""
    plain = over_root_mean_square([axis], root=root, square=square, opset=opset)
    *nodes, last = plain.nodes
    result = node(last.op_type, " ".join(last.input), "n")
    weights = {**plain.weights, "gamma": GAMMA}
    return Spelling((*nodes, result, node("Mul", "gamma n", "y")), weights)


def inside(opset: int = 17) -> Spelling:
    """x times the reciprocal times gamma."""
    plain = over_root_mean_square([-1], root="times Reciprocal", opset=opset)
    last = [node("Mul", "inverse gamma", "f"), node("Mul", "x f", "y")]
    return Spelling((*plain.nodes[:-1], *last), {**plain.weights, "gamma": GAMMA})


def kernels(model: onnx.ModelProto, folder: Path) -> set[str]:
    """Return the operators that onnxruntime runs at its default level."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {each.op_type for each in all_nodes(onnx.load(options.optimized_model_filepath).graph)}


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(("root", "square"), [each for each in SPELLINGS if each != KNOWN])
def test_changes_any_root_and_square(
    root: str, square: str, opset: int, commuted: bool, tmp_path: Path
) -> None:
    spelling = spelled(root, square, opset=opset)
    model = (spelling.commuted() if commuted else spelling).model(DIMS, opset=opset)
    after = assert_fuses(model, RULE, leaves=LEAVES)
    fused = "SimplifiedLayerNormalization"
    assert (fused in kernels(model, tmp_path)) == ((root, square) == FUSED_AS_WELL)
    assert fused in kernels(after.model, tmp_path)


def test_takes_gamma_from_the_factor(tmp_path: Path) -> None:
    after = assert_fuses(inside().model(DIMS), RULE, leaves=LEAVES)
    assert "SimplifiedLayerNormalization" in kernels(after.model, tmp_path)


def test_gamma_may_be_one_number() -> None:
    spelling = spelled()
    assert_fuses(
        Spelling(spelling.nodes, {**spelling.weights, "gamma": f32(3)}).model(DIMS), RULE, leaves=LEAVES
    )


def test_changes_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(spelled(), RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(spelled(), RULE, DIMS, 17)


def test_leaves_what_is_spelled_so() -> None:
    assert_stays(spelled(*KNOWN).model(DIMS), RULE, "")


def test_leaves_opset_23_to_the_operator() -> None:
    assert rewrite(spelled(opset=23).model(DIMS, opset=23), RULE).fired == {}


def test_keeps_out_without_gamma() -> None:
    plain = over_root_mean_square([-1], root="times Reciprocal", opset=17)
    assert_stays(plain.model(DIMS), RULE, "")


def test_keeps_out_of_other_axes() -> None:
    assert_stays(spelled(axis=1).model(("batch", 8, 8)), RULE, "the axes are not the last one")


def test_keeps_out_of_other_types() -> None:
    model = spelled().model(DIMS, dtype=TensorProto.FLOAT16)
    assert_stays(model, RULE, "onnxruntime fuses it for float32")


def test_keeps_out_of_other_constants() -> None:
    spelling = spelled()
    model = Spelling(spelling.nodes, {**spelling.weights, "two": f32(3)}).model(DIMS)
    assert_stays(model, RULE, "other constants")


def test_keeps_out_of_an_unknown_size() -> None:
    reason = "the size of the normalized axes is unknown"
    assert_stays(spelled().model(("batch", 5, "width")), RULE, reason)
