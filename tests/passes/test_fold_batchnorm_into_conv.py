"""fold_batchnorm_into_conv: what fires, and each precondition broken once."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import assert_fires, assert_keeps_out

RULE = "fold_batchnorm_into_conv"


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_fires_in_any_dimension_and_grouping(spatial: int, group: int, bias: bool) -> None:
    layer = folds.conv(spatial=spatial, group=group, bias=bias)
    after = assert_fires(folds.build(layer, folds.batch_norm(8)), RULE)
    assert after.ops == {"Conv": 1}
    assert after.model.graph.node[0].name == "layer"


def test_fires_on_depthwise() -> None:
    layer = folds.conv(group=4, channels=4, bias=False)
    assert_fires(folds.build(layer, folds.batch_norm(4)), RULE)


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 15, 18, 21])
def test_fires_in_any_opset_with_inference_batch_norm(opset: int) -> None:
    assert_fires(folds.build(folds.conv(), folds.batch_norm(8), opset=opset), RULE)


def test_fires_on_half_precision() -> None:
    model = folds.build(folds.conv(), folds.batch_norm(8), dtype=TensorProto.FLOAT16)
    after = assert_fires(model, RULE, rtol=1e-2)
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(TensorProto.DOUBLE, 1e-5), (TensorProto.BFLOAT16, 3e-2)], ids=["double", "bfloat16"]
)
def test_fires_on_types_that_onnxruntime_cannot_run(dtype: int, rtol: float) -> None:
    model = folds.build(folds.conv(), folds.batch_norm(8), dtype=dtype)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {dtype}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model), rtol=rtol)


def test_fires_on_half_precision_weights_with_float_statistics() -> None:
    model = folds.build(folds.conv(), folds.batch_norm(8), dtype=TensorProto.FLOAT16)
    for tensor in model.graph.initializer:
        if tensor.name in {"gamma", "beta", "mean", "var"}:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    assert_fires(model, RULE, rtol=1e-2)


def test_epsilon_defaults_to_1e5() -> None:
    tail = folds.batch_norm(8)
    del tail.node.attribute[:]
    tail.weights["var"][:] = 1e-5
    assert_fires(folds.build(folds.conv(), tail), RULE)


def test_stored_weights_are_the_formula_in_double_precision() -> None:
    layer, tail = folds.conv(), folds.batch_norm(8)
    after = rewrite(folds.build(layer, tail), RULE)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.model.graph.initializer}
    w, b = (weights[name] for name in after.model.graph.node[0].input[1:])
    gamma, beta, mean, var, *_ = (array.astype(np.float64) for array in tail.weights.values())
    scale = gamma / np.sqrt(var + f32(1e-3).astype(np.float64))
    expected = (layer.weights["w"].astype(np.float64) * scale[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(b, ((layer.weights["b"] - mean) * scale + beta).astype(np.float32))


def test_fires_when_the_result_has_many_users() -> None:
    users = [helper.make_node(op, ["y"], [op]) for op in ("Relu", "Neg")]
    assert_fires(
        folds.build(folds.conv(), folds.batch_norm(8), more=users, outputs=["Relu", "y", "Neg"]), RULE
    )


def test_a_shared_bias_is_not_changed_for_the_others() -> None:
    other = helper.make_node("Add", ["b", "b"], ["other"])
    model = folds.build(folds.conv(), folds.batch_norm(8), more=[other], outputs=["y", "other"])
    assert_fires(model, RULE)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.conv(), folds.batch_norm(8)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert after.ops == {"If": 1, "Conv": 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_fires_in_a_function_and_stores_weights_in_constants() -> None:
    model = folds.in_function(folds.build(folds.conv(), folds.batch_norm(8)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    (function,) = after.model.functions
    assert sorted(node.op_type for node in function.node) == ["Constant", "Constant", "Conv"]
    assert not after.model.graph.initializer
    assert_same_answers(model, after.model)


def test_fires_on_constant_nodes() -> None:
    layer, tail = folds.conv(), folds.batch_norm(8)
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in {**layer.weights, **tail.weights}.items()
    ]
    model = make_model([*constants, *layer.nodes, tail.node], {"x": layer.dims}, ["y"])
    assert assert_fires(model, RULE).ops == {"Conv": 1}


@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break) -> None:
    model, reason = break_(folds.conv(), folds.batch_norm(8))
    assert_keeps_out(model, RULE, reason)


def test_keeps_out_of_a_bias_that_comes_with_each_run() -> None:
    layer = folds.conv()
    model = folds.build(layer, folds.batch_norm(8), inputs={"b": [8]})
    assert_keeps_out(model, RULE, "")


def test_keeps_out_when_a_weight_would_vanish() -> None:
    tail = folds.batch_norm(8)
    tail.weights["gamma"] *= f32(1e-6)
    model = folds.build(folds.conv(), tail, dtype=TensorProto.FLOAT16)
    assert_keeps_out(model, RULE, "the folded weights do not fit float16")


def test_keeps_out_of_an_undefined_scale() -> None:
    tail = folds.batch_norm(8)
    tail.weights["var"][3] = -1
    model = folds.build(folds.conv(), tail)
    assert_keeps_out(model, RULE, "the folded weights do not fit float32")


def test_keeps_out_of_training_mode() -> None:
    tail = folds.batch_norm(8, training_mode=1)
    tail.node.output.extend(["running_mean", "running_var"])
    model = folds.build(folds.conv(), tail, outputs=["y", "running_mean"], opset=15)
    assert_keeps_out(model, RULE, "BatchNormalization in training mode")


@pytest.mark.parametrize("opset", [9, 13])
def test_keeps_out_of_statistics_as_outputs_which_mean_training_before_opset_14(opset: int) -> None:
    tail = folds.batch_norm(8)
    tail.node.output.extend(["running_mean", "running_var", "saved_mean", "saved_var"])
    model = folds.build(folds.conv(), tail, opset=opset)
    assert_keeps_out(model, RULE, "BatchNormalization in training mode")


@pytest.mark.parametrize(
    ("attributes", "fires"), [({}, False), ({"is_test": 0}, False), ({"is_test": 1}, True)]
)
def test_before_opset_7_is_test_decides(attributes: dict[str, int], fires: bool) -> None:
    model = folds.build(folds.conv(), folds.batch_norm(8, **attributes), opset=6)  # nothing runs opset 6
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: 1} if fires else {})
    assert after.declined[RULE] == ({} if fires else {"BatchNormalization in training mode": 1})


def test_keeps_out_of_statistics_per_element() -> None:
    layer, tail = folds.conv(), folds.batch_norm(8, spatial=0)
    for name in tail.weights:
        tail.weights[name] = np.broadcast_to(tail.weights[name].reshape(8, 1, 1), (8, 6, 6)).copy()
    after = rewrite(folds.build(layer, tail, opset=7), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"BatchNormalization per element": 1}


def test_keeps_out_when_conv_and_batch_norm_lie_in_different_graphs() -> None:
    model = folds.build(folds.conv(), folds.batch_norm(8))
    conv, norm = model.graph.node
    branches = {
        "then_branch": helper.make_graph([norm], "then", [], [onnx.ValueInfoProto(name="y")]),
        "else_branch": helper.make_graph(
            [helper.make_node("Relu", ["c"], ["z"])], "else", [], [onnx.ValueInfoProto(name="z")]
        ),
    }
    split = make_model(
        [conv, helper.make_node("If", ["flag"], ["out"], **branches)],
        {"x": ["batch", 4, 6, 6]},
        ["out"],
        {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        | {"flag": np.array(True)},
    )
    assert_keeps_out(split, RULE, "Conv lies outside the body that uses it")


def test_bfloat16_is_what_ml_dtypes_calls_it() -> None:
    """Numpy does not count bfloat16 as a float; the folds ask for its name."""
    assert np.dtype(ml_dtypes.bfloat16).name == "bfloat16"
