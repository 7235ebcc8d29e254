"""Models of less common kinds keep their answers, lose what is useless, and keep what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fuseonnx
from tests.helpers import IR_VERSION, Feeds, batch_norm_weights, f32, node, run_reference

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 3, 5, 5)).astype(np.float32)
ROWS = RNG.normal(size=(4, 6)).astype(np.float32)
FILTERS = RNG.integers(-20, 20, (4, 3, 3, 3)).astype(np.int8)
Info = onnx.ValueInfoProto


class Case(NamedTuple):
    """A model, its inputs, and which operators it must keep; every Identity must go but those named."""

    model: onnx.ModelProto
    feeds: Feeds
    kept: str


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[Info],
    outputs: list[Info],
    weights: dict[str, np.ndarray] | None = None,
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """Return a model of opset 17; `domains` are the others that it imports."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "kept", inputs, outputs, tensors)
    opsets = [helper.make_opsetid(*each) for each in {"": 17, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def tensor(name: str, dtype: int, *dims: int | str) -> Info:
    return helper.make_tensor_value_info(name, dtype, dims)


def quantize_dequantize() -> Case:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("Identity", "q", "q2"),
        node("DequantizeLinear", "q2 scale zero", "d"),
        node("DequantizeLinear", "w w_scale w_zero", "dw", axis=0),
        node("Conv", "d dw", "c", pads=[1, 1, 1, 1]),
        node("QuantizeLinear", "c scale zero", "qc"),
        node("DequantizeLinear", "qc scale zero", "y"),
    ]
    weights = {
        "scale": f32(0.05),
        "zero": np.array(128, np.uint8),
        "w": FILTERS,
        "w_scale": f32([0.01, 0.02, 0.03, 0.04]),
        "w_zero": np.zeros(4, np.int8),
    }
    model = build(nodes, [tensor("x", 1, "n", 3, 5, 5)], [tensor("y", 1, "n", 4, 5, 5)], weights)
    kept = "Conv DequantizeLinear DequantizeLinear DequantizeLinear QuantizeLinear QuantizeLinear"
    return Case(model, {"x": IMAGE}, kept)


def quantized_operators() -> Case:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("QLinearConv", "q scale zero w w_scale w_zero out_scale zero", "c", pads=[1, 1, 1, 1]),
        node("Identity", "c", "c2"),
        node("DequantizeLinear", "c2 out_scale zero", "y"),
    ]
    weights = {
        "scale": f32(0.05),
        "out_scale": f32(0.2),
        "zero": np.array(128, np.uint8),
        "w": FILTERS,
        "w_scale": f32(0.02),
        "w_zero": np.array(0, np.int8),
    }
    model = build(nodes, [tensor("x", 1, "n", 3, 5, 5)], [tensor("y", 1, "n", 4, 5, 5)], weights)
    return Case(model, {"x": IMAGE}, "DequantizeLinear QLinearConv QuantizeLinear")


def dynamic_quantization() -> Case:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q scale zero"),
        node("MatMulInteger", "q w zero w_zero", "p"),
        node("Cast", "p", "f", to=TensorProto.FLOAT),
        node("Mul", "scale w_scale", "both"),
        node("Mul", "f both", "s"),
        node("Identity", "s", "s2"),
        node("Relu", "s2", "y"),
    ]
    weights = {
        "w": RNG.integers(-90, 90, (6, 5)).astype(np.int8),
        "w_zero": np.array(3, np.int8),
        "w_scale": f32([0.01]),
    }
    model = build(nodes, [tensor("x", 1, "n", 6)], [tensor("y", 1, "n", 5)], weights)
    return Case(model, {"x": ROWS}, "Cast DynamicQuantizeLinear MatMulInteger Mul Mul Relu")


def integer_convolution() -> Case:
    """A zero point other than 0: padding with 0 is then no padding with nothing."""
    nodes = [
        node("Identity", "x", "i"),
        node("ConvInteger", "i w zero", "c", pads=[1, 1, 1, 1]),
        node("Cast", "c", "f", to=TensorProto.FLOAT),
        node("Mul", "f scale", "y"),
    ]
    weights = {"w": FILTERS.astype(np.uint8), "zero": np.array(7, np.uint8), "scale": f32(0.1)}
    x = RNG.integers(0, 255, (2, 3, 5, 5)).astype(np.uint8)
    model = build(nodes, [tensor("x", 2, "n", 3, 5, 5)], [tensor("y", 1, "n", 4, 5, 5)], weights)
    return Case(model, {"x": x}, "Cast ConvInteger Mul")


def sequences() -> Case:
    nodes = [
        node("Identity", "x", "i"),
        node("SplitToSequence", "i two", "s", axis=0),
        node("SequenceAt", "s first", "a"),
        node("SequenceInsert", "s a", "longer"),
        node("ConcatFromSequence", "longer", "y", axis=0),
        node("SequenceLength", "longer", "length"),
    ]
    weights = {"two": np.array(2), "first": np.array(0)}
    outputs = [tensor("y", 1, "m", 6), tensor("length", 7)]
    kept = "ConcatFromSequence SequenceAt SequenceInsert SequenceLength SplitToSequence"
    return Case(build(nodes, [tensor("x", 1, 4, 6)], outputs, weights), {"x": ROWS}, kept)


def optionals() -> Case:
    nodes = [
        node("Identity", "x", "i"),
        node("Optional", "i", "o"),
        node("OptionalHasElement", "o", "has"),
        node("OptionalGetElement", "o", "e"),
        node("Relu", "e", "y"),
    ]
    outputs = [tensor("y", 1, 4, 6), tensor("has", 9)]
    kept = "Optional OptionalGetElement OptionalHasElement Relu"
    return Case(build(nodes, [tensor("x", 1, 4, 6)], outputs), {"x": ROWS}, kept)


def strings() -> Case:
    nodes = [
        node("Identity", "x", "i"),
        helper.make_node(
            "LabelEncoder",
            ["i"],
            ["n"],
            domain="ai.onnx.ml",
            keys_strings=["cat", "dog"],
            values_int64s=[4, 5],
            default_int64=-1,
        ),
        node("Identity", "word", "w"),
        node("Concat", "w i", "y", axis=0),
    ]
    weights = {"word": np.array(["mouse"], dtype=object)}
    model = build(
        nodes, [tensor("x", 8, "n")], [tensor("n", 7, "n"), tensor("y", 8, "m")], weights, {"ai.onnx.ml": 2}
    )
    return Case(model, {"x": np.array(["dog", "bird", "cat"], dtype=object)}, "Concat LabelEncoder")


def other_domain() -> Case:
    """What a rule takes for granted of Gelu need not hold for that of another domain."""
    nodes = [
        node("Identity", "x", "i"),
        helper.make_node("BiasGelu", ["i", "b"], ["g"], domain="com.microsoft"),
        helper.make_node("BiasGelu", ["x", "b"], ["h"], domain="com.microsoft"),
        node("Mul", "g one", "m"),
        node("Add", "m h", "y"),
    ]
    weights = {"b": f32(np.arange(6)), "one": f32(1)}
    model = build(nodes, [tensor("x", 1, "n", 6)], [tensor("y", 1, "n", 6)], weights, {"com.microsoft": 1})
    return Case(model, {"x": ROWS}, "Add BiasGelu BiasGelu")


def training_batch_norm() -> Case:
    """It takes mean and variance from the batch: nothing to fold."""
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c gamma beta mean var", "n m v", training_mode=1),
        node("Identity", "n", "i"),
        node("Relu", "i", "y"),
    ]
    weights = {"w": RNG.normal(size=(4, 3, 1, 1)).astype(np.float32), **batch_norm_weights(4)}
    model = build(nodes, [tensor("x", 1, "n", 3, 5, 5)], [tensor("y", 1, "n", 4, 5, 5)], weights)
    return Case(model, {"x": IMAGE}, "BatchNormalization Conv Relu")


def training_dropout() -> Case:
    nodes = [
        node("Dropout", "x half yes", "d", seed=3),
        node("Dropout", "d half no", "e", seed=3),
        node("Identity", "e", "i"),
        node("Abs", "i", "y"),
    ]
    weights = {"half": f32(0.5), "yes": np.array(True), "no": np.array(False)}
    model = build(nodes, [tensor("x", 1, "n", 6)], [tensor("y", 1, "n", 6)], weights)
    return Case(model, {"x": ROWS}, "Abs Dropout")


def brain_float() -> Case:
    """Neither through float32, nor back, is nothing: bfloat16 rounds."""
    nodes = [
        node("Cast", "x", "b", to=TensorProto.BFLOAT16),
        node("Cast", "b", "f", to=TensorProto.FLOAT),
        node("Identity", "f", "i"),
        node("Relu", "i", "y"),
    ]
    model = build(nodes, [tensor("x", 1, "n", 6)], [tensor("y", 1, "n", 6)])
    return Case(model, {"x": ROWS}, "Cast Cast Relu")


def double() -> Case:
    """A constant of which float32 holds only the first half of the digits."""
    nodes = [
        node("MatMul", "x w", "p"),
        node("Mul", "p third", "s"),
        node("Add", "s b", "t"),
        node("Identity", "t", "i"),
        node("Relu", "i", "y"),
    ]
    weights = {"w": RNG.normal(size=(6, 5)), "third": np.array(1 / 3), "b": RNG.normal(size=5)}
    model = build(nodes, [tensor("x", 11, 4, 6)], [tensor("y", 11, 4, 5)], weights)
    return Case(model, {"x": ROWS.astype(np.float64)}, "Gemm Relu")


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        quantize_dequantize,
        quantized_operators,
        dynamic_quantization,
        integer_convolution,
        sequences,
        optionals,
        strings,
        other_domain,
        training_batch_norm,
        training_dropout,
        brain_float,
        double,
    )
}


@pytest.mark.parametrize("name", CASES)
def test_answers_stay_and_only_the_useless_goes(name: str) -> None:
    case = CASES[name]()
    onnx.checker.check_model(case.model)
    result = fuseonnx.optimize(case.model)
    after = result.model
    assert isinstance(after, onnx.ModelProto)
    onnx.checker.check_model(after)
    assert result.report.rolled_back == ()
    assert result.report.verification.status == "passed"
    assert sorted(each.op_type for each in after.graph.node) == case.kept.split()
    expected, found = run_reference(case.model, case.feeds), run_reference(after, case.feeds)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        if value.dtype.kind == "f":
            atol = 20 * np.finfo(value.dtype).eps * np.abs(value).max()
            np.testing.assert_allclose(found[key], value, rtol=0, atol=atol)
        else:
            np.testing.assert_array_equal(found[key], value)


def test_an_operator_that_nobody_knows_stays() -> None:
    nodes = [
        node("Identity", "x", "i"),
        helper.make_node("Relu", ["i"], ["a"], domain="my.domain"),
        helper.make_node("Relu", ["a"], ["b"], domain="my.domain"),
        node("Relu", "b", "c"),
        node("Relu", "c", "y"),
    ]
    model = build(nodes, [tensor("x", 1, "n", 6)], [tensor("y", 1, "n", 6)], domains={"my.domain": 1})
    result = fuseonnx.optimize(model)
    assert isinstance(result.model, onnx.ModelProto)
    assert [each.domain for each in result.model.graph.node] == ["my.domain", "my.domain", ""]
    assert result.report.verification.status == "skipped"
