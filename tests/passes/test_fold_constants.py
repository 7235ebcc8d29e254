"""fold_constants: what is computed, what stays and why, and the results against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite

RULE = "fold_constants"
TABLE = np.array([[-7, 7, -1, 0, 5], [3, -3, 2, 9, -8]])
STRING = numpy_helper.from_array(np.array(["a", "b"], dtype=object))

# operator, attributes, constants, reason
KEPT: dict[str, tuple[str, dict[str, Any], list[np.ndarray | None], str]] = {
    "ConstantOfShape grows": (
        "ConstantOfShape",
        {},
        [np.array([300, 300])],
        "it would grow the file by 360,000 bytes",
    ),
    "Expand grows": (
        "Expand",
        {},
        [f32([1]), np.array([300, 300])],
        "it would grow the file by 360,000 bytes",
    ),
    "Tile grows": (
        "Tile",
        {},
        [np.ones((1, 300), np.float32), np.array([300, 1])],
        "it would grow the file by 358,800 bytes",
    ),
    "a sum that broadcasts grows": (
        "Add",
        {},
        [np.ones((300, 1), np.float32), np.ones((1, 300), np.float32)],
        "it would grow the file by 357,600 bytes",
    ),
    "Cast to a wider type grows": (
        "Cast",
        {"to": TensorProto.DOUBLE},
        [np.ones((300, 300), np.float32)],
        "it would grow the file by 360,000 bytes",
    ),
    "more memory than there is": (
        "ConstantOfShape",
        {},
        [np.array([1 << 20, 1 << 20])],
        "it would take too long or too much memory",
    ),
    "Range without end": (
        "Range",
        {},
        [np.array(0), np.array(1 << 40), np.array(1)],
        "it would take too long or too much memory",
    ),
    "a weight stays quantized": (
        "DequantizeLinear",
        {},
        [np.arange(6, dtype=np.int8), f32(0.5), np.array(1, np.int8)],
        "weights stay quantized",
    ),
    "so does what is quantized at load": (
        "QuantizeLinear",
        {},
        [f32([1, 2]), f32(0.5), np.array(1, np.int8)],
        "weights stay quantized",
    ),
    "numpy takes nothing where a Slice counts down from before the axis": (
        "Slice",
        {},
        [TABLE, np.array([-99]), np.array([-99]), np.array([0]), np.array([-1])],
        "onnx.reference and onnxruntime differ on Slice",
    ),
    "onnxruntime counts down to the largest end": (
        "Slice",
        {},
        [TABLE, np.array([-1]), np.array([2**63 - 1]), np.array([0]), np.array([-1])],
        "onnx.reference and onnxruntime differ on Slice",
    ),
    "the mean of nothing": (
        "ReduceMean",
        {"keepdims": 0},
        [np.zeros((2, 0), np.float32)],
        "onnx.reference and onnxruntime differ on ReduceMean",
    ),
    "random": ("RandomNormalLike", {"seed": 1.0}, [f32([1, 2])], ""),
    "random with a seed": ("Bernoulli", {"seed": 1.0}, [f32([0.5, 0.5])], ""),
    "Dropout may train": ("Dropout", {}, [f32([1, 2]), f32(0.5)], ""),
}


def constant_model(
    op_type: str,
    constants: list[np.ndarray | None],
    attributes: dict[str, Any] | None = None,
    *,
    results: int = 1,
    opset: int = 18,
    overridable: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """One operator on constants, each result passed on by an Identity."""
    weights = {f"w{index}": np.asarray(each) for index, each in enumerate(constants) if each is not None}
    inputs = [f"w{index}" if each is not None else "" for index, each in enumerate(constants)]
    outputs = [f"o{index}" for index in range(results)]
    nodes = [helper.make_node(op_type, inputs, outputs, **(attributes or {}))]
    nodes += [helper.make_node("Identity", [output], [f"y{output}"]) for output in outputs]
    names = [f"y{output}" for output in outputs]
    return make_model(nodes, {}, names, weights, opset=opset, overridable=overridable)


def assert_folds(model: onnx.ModelProto, rtol: float = 1e-6) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert set(after.ops) == {"Identity"}
    assert_same_answers(model, after.model, {}, rtol)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Equal", "Less"])
def test_arithmetic_keeps_type_and_rounds_as_onnxruntime_does(op_type: str, dtype: type) -> None:
    model = constant_model(op_type, [TABLE.astype(dtype), np.array([2, -2, 3, -3, 4]).astype(dtype)])
    assert_folds(model, rtol=1e-3 if dtype is np.float16 else 1e-6)


@pytest.mark.parametrize(
    ("op_type", "constants", "attributes", "opset"),
    [
        ("Mod", [TABLE, np.array([2, -2, 3, -3, 4])], {}, 18),
        ("Mod", [TABLE.astype(np.float32), f32([2, -2, 3, -3, 4])], {"fmod": 1}, 18),
        ("Round", [f32([0.5, 1.5, 2.5, -0.5])], {}, 18),
        ("Cast", [f32([-1.5, -0.5, 0.5, 1.5])], {"to": TensorProto.INT64}, 18),
        ("Gather", [TABLE, np.array([-1, 0])], {"axis": 1}, 18),
        ("Slice", [TABLE, np.array([-1]), np.array([-100]), np.array([1]), np.array([-2])], {}, 18),
        ("Slice", [TABLE], {"starts": [1], "ends": [9], "axes": [1]}, 9),
        ("Unsqueeze", [TABLE], {"axes": [0, 3]}, 11),
        ("Unsqueeze", [TABLE, np.array([-1, 0])], {}, 13),
        ("Reshape", [TABLE, np.array([0, -1, 1])], {}, 18),
        ("Concat", [TABLE, TABLE], {"axis": -1}, 18),
        ("Clip", [TABLE.astype(np.float32), None, f32(2)], {}, 18),
        ("ReduceSum", [TABLE.astype(np.float32), None], {"keepdims": 0}, 18),
        ("ReduceMean", [TABLE.astype(np.float32)], {"axes": [1]}, 17),
        ("Range", [np.array(10), np.array(-3), np.array(-4)], {}, 18),
        ("ConstantOfShape", [np.array([2, 3])], {"value": numpy_helper.from_array(np.array([7]))}, 18),
        ("Softmax", [np.arange(24, dtype=np.float32).reshape(2, 3, 4)], {"axis": 1}, 18),
        ("Where", [TABLE > 0, TABLE, np.array(-1)], {}, 18),
        ("MatMul", [TABLE, TABLE.T], {}, 18),
        ("Transpose", [TABLE], {}, 18),
    ],
    ids=str,
)
def test_folds_what_onnxruntime_computes(
    op_type: str, constants: list[np.ndarray | None], attributes: dict[str, Any], opset: int
) -> None:
    assert_folds(constant_model(op_type, constants, attributes, opset=opset))


def test_softmax_before_opset_13_takes_all_axes_from_the_given_one() -> None:
    model = constant_model("Softmax", [np.arange(24, dtype=np.float32).reshape(2, 3, 4)], opset=12)
    assert_same_answers(model, rewrite(model, RULE).model, {})


@pytest.mark.parametrize(
    ("op_type", "attributes", "constants"),
    [
        ("Split", {"axis": 1}, [TABLE, np.array([2, 3])]),
        ("Split", {"axis": 1, "num_outputs": 2}, [TABLE]),
        ("TopK", {"largest": 0}, [TABLE.astype(np.float32), np.array([3])]),
    ],
    ids=str,
)
def test_folds_every_output(
    op_type: str, attributes: dict[str, Any], constants: list[np.ndarray | None]
) -> None:
    assert_folds(constant_model(op_type, constants, attributes, results=2))


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_keeps(case: str) -> None:
    op_type, attributes, constants, reason = KEPT[case]
    model = constant_model(op_type, constants, attributes)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined.get(RULE, {})) == ({reason} if reason else set())
    assert after.ops == {op_type: 1, "Identity": 1}


def test_growth_counts_what_the_fold_frees() -> None:
    """A transposed weight replaces the weight, so the file stays as large as it was."""
    model = constant_model("Transpose", [np.random.default_rng(0).normal(size=(500, 400)).astype(np.float32)])
    before = model.ByteSize()
    after = rewrite(model, RULE, "remove_unused_initializers")
    assert after.fired[RULE] == 1
    assert after.model.ByteSize() < before + 500
    assert_same_answers(model, after.model, {})


def test_a_large_result_is_computed_when_it_is_saved() -> None:
    model = constant_model("Transpose", [np.random.default_rng(0).normal(size=(700, 500)).astype(np.float32)])
    assert_folds(model, rtol=0)


def test_keeps_a_weight_that_others_read_in_both_forms() -> None:
    weight = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 300]}, ["y"], {"w": weight})
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"it would grow the file by 360,000 bytes": 1}


def test_keeps_strings() -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=STRING),
        helper.make_node("Constant", [], ["i"], value_ints=[1, 0]),
        helper.make_node("Gather", ["w", "i"], ["o"]),
        helper.make_node("Identity", ["o"], ["y"]),
    ]
    model = make_model(nodes, {}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the result of Gather is no numeric tensor": 1}
    assert_same_answers(model, after.model, {})


def test_keeps_what_an_overridable_initializer_feeds() -> None:
    model = constant_model("Neg", [f32([1, 2])], overridable=("w0",))
    after = rewrite(model, RULE)
    assert (after.fired, after.declined) == ({}, {})


def test_keeps_a_result_that_is_a_graph_output() -> None:
    model = make_model([helper.make_node("Neg", ["w"], ["y"])], {}, ["y"], {"w": f32([1, 2])})
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the result is a graph output": 1}


def test_keeps_a_loop_which_may_run_for_long() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    constants = {"n": np.array(3), "go0": np.array(True), "v0": f32(1)}
    model = make_model(
        [helper.make_node("Loop", [*constants], ["o"], body=body), helper.make_node("Size", ["o"], ["y"])],
        {},
        ["y"],
        constants,
    )
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"it has a body": 1}
    assert_same_answers(model, after.model, {})


def test_keeps_negative_zero_and_nan() -> None:
    bits = np.array([0x80000000, 0x7FC00123, 0], np.uint32).view(np.float32)
    nodes = [helper.make_node("Reshape", ["w", "s"], ["o"]), helper.make_node("Mul", ["x", "o"], ["y"])]
    model = make_model(nodes, {"x": [3, 1]}, ["y"], {"w": bits, "s": np.array([3, 1])})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    (folded,) = (each for each in after.model.graph.initializer if each.name not in {"w", "s"})
    assert numpy_helper.to_array(folded).tobytes() == bits.tobytes()


def test_folds_a_chain_to_its_end_in_a_function() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.node[0].CopyFrom(helper.make_node("shift", ["x"], ["y"], domain="test"))
    model.functions.append(
        helper.make_function("test", "shift", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert [node.op_type for node in after.model.functions[0].node] == ["Constant", "Add"]
    assert_same_answers(model, after.model)


def test_folds_in_a_body() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["w"], [f"{name}c"]), helper.make_node("Add", ["x", f"{name}c"], [name])],
            name,
            [],
            [onnx.ValueInfoProto(name=name)],
        )
        for name, op in (("then", "Exp"), ("else", "Neg"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    model = make_model(nodes, {"x": [2]}, ["y"], {"w": f32([1, 2]), "zero": f32(0)})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for sign in (1, -1):
        assert_same_answers(model, after.model, {"x": f32([sign, sign])})
