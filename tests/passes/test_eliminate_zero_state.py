"""eliminate_zero_state: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.helpers import IR_VERSION, Rewritten, f32, make_model, node, random_feeds, rewrite, run_reference

RULE = "eliminate_zero_state"
LENGTH, BATCH, INPUT, HIDDEN = 5, 3, 4, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def normal(*shape: int) -> np.ndarray:
    return f32(np.random.default_rng(sum(shape)).normal(size=shape))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


STATE = zeros(1, BATCH, HIDDEN)
CONSTANTS = {
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "eight": np.array([8]),
    "ones": np.array([1, 1]),
    "pattern": np.array([1, BATCH, 1]),
    "shape": np.array([1, BATCH, HIDDEN]),
    "from": np.array([0, 0]),
    "to": np.array([1, HIDDEN]),
    "axes": np.array([0, 2]),
    "none": zeros(1, 1, HIDDEN),
    "tiny": f32(1e-30),
    "table": zeros(9, HIDDEN),
    "rows": np.array([[1, 8, 0]]),
    "whole": np.zeros((1, BATCH, HIDDEN), np.int64),
}
FILL = {"value": numpy_helper.from_array(zeros(1))}
SIZES = [
    node("Shape", "x", "dims"),
    node("Slice", "dims one two", "batch"),
    node("Concat", "one batch two", "sizes", axis=0),
]
FILLED = [*SIZES, node("ConstantOfShape", "sizes", "z", **FILL)]


def model_of(
    makers: Sequence[NodeProto] = (),
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    op: str = "GRU",
    states: str = "h",
    fed: Sequence[str] = (),
    batch: int | str = BATCH,
    overridable: Sequence[str] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a model of one recurrent node; `states` are its inputs from initial_h on, `makers` make them."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[op] * HIDDEN
    weights = {
        "w": normal(directions, gates, INPUT),
        "r": normal(directions, gates, HIDDEN),
        "b": normal(directions, 2 * gates),
        "lengths": np.array([LENGTH, 2, 1], np.int32),
        "p": normal(directions, 3 * HIDDEN),
        **CONSTANTS,
        **(constants or {}),
    }
    outputs = "y y_h y_c" if op == "LSTM" else "y y_h"
    root = node(op, "x w r b lengths " + states, outputs, hidden_size=HIDDEN, **attributes)
    root.input[:] = ["" if name == "-" else name for name in root.input]
    inputs = {"x": (LENGTH, batch, INPUT), **dict.fromkeys(fed, STATE.shape)}
    used = {name for each in [*makers, root] for name in each.input}
    known = {name: array for name, array in weights.items() if name in used}
    return make_model([*makers, root], inputs, outputs.split(), known, overridable=overridable)


def cleaned(model: onnx.ModelProto) -> Rewritten:
    return rewrite(model, RULE, "remove_dead_nodes", "remove_unused_initializers")


def inputs_of(model: onnx.ModelProto) -> list[str]:
    """Return the inputs of the recurrent node from sequence_lens on."""
    return next(list(each.input)[4:] for each in model.graph.node if each.op_type in GATES)


def assert_same_bits(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    feeds = random_feeds(before, batch=BATCH)
    expected, actual = run_reference(before, feeds), run_reference(after, feeds)
    assert {name: each.tobytes() for name, each in actual.items()} == {
        name: each.tobytes() for name, each in expected.items()
    }


@pytest.mark.parametrize(
    ("makers", "options"),
    [
        ([], {"fed": ["h"]}),
        ([], {"constants": {"h": STATE}, "overridable": ["h"]}),
        ([*SIZES, node("ConstantOfShape", "sizes", "h", value=numpy_helper.from_array(f32([1])))], {}),
        ([*FILLED, node("Exp", "z", "h")], {}),
        ([*FILLED, node("Sub", "z tiny", "h")], {}),
        (
            [*FILLED, node("Concat", "z fed", "both", axis=0), node("Slice", "both one two", "h")],
            {"fed": ["fed"]},
        ),
        ([node("Slice", "x from to axes", "s"), node("Mul", "s none", "h")], {}),
    ],
    ids=["fed", "overridable", "ones", "exponential", "shifted", "zeros and others", "NaN where x is"],
)
def test_keeps_what_may_not_be_zero(makers: Sequence[NodeProto], options: dict[str, Any]) -> None:
    after = rewrite(model_of(makers, **options), RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the initial state may not be zero": 1}}


@pytest.mark.parametrize("rows", [9, 50_000], ids=["small", "large"])
@pytest.mark.parametrize("number", [1e-30, np.nan])
def test_keeps_a_table_that_is_not_zero_everywhere(rows: int, number: float) -> None:
    table = zeros(rows, HIDDEN)
    table[-1, -1] = number
    assert rewrite(model_of([node("Gather", "table rows", "h")], {"table": table}), RULE).fired == {}


@pytest.mark.parametrize(
    ("op", "dims", "layout"),
    [
        ("GRU", (1, BATCH + 1, HIDDEN), 0),
        ("GRU", (1, 1, HIDDEN), 0),
        ("LSTM", (2, BATCH, HIDDEN), 0),
        ("RNN", (1, BATCH, 1), 0),
        ("RNN", (BATCH, HIDDEN), 0),
        ("GRU", (1, LENGTH, HIDDEN), 1),
    ],
)
def test_keeps_one_of_a_wrong_size(op: str, dims: tuple[int, ...], layout: int) -> None:
    root = helper.make_node(op, ["x", "w", "r", "", "", "h"], ["", "y"], hidden_size=HIDDEN, layout=layout)
    gates = GATES[op] * HIDDEN
    weights = {"w": normal(1, gates, INPUT), "r": normal(1, gates, HIDDEN), "h": zeros(*dims)}
    model = make_model([root], {"x": (LENGTH, BATCH, INPUT)}, ["y"], weights)
    assert rewrite(model, RULE).fired == {}


def test_leaves_alone_what_has_no_state() -> None:
    after = rewrite(model_of(op="LSTM", states="- - p"), RULE)
    assert after.fired == {}
    assert after.declined == {}


def test_keeps_one_whose_filling_is_a_parameter_of_a_function() -> None:
    sizes = helper.make_node("Constant", [], ["sizes"], value_ints=[1, BATCH, HIDDEN])
    fill = helper.make_node("ConstantOfShape", ["sizes"], ["h"])
    reference = onnx.AttributeProto(name="value", ref_attr_name="fill", type=onnx.AttributeProto.TENSOR)
    fill.attribute.append(reference)
    root = helper.make_node("RNN", ["x", "w", "r", "", "", "h"], ["", "y"], hidden_size=HIDDEN)
    opset = helper.make_opsetid("", 17)
    function = helper.make_function(
        "local", "Net", ["x", "w", "r"], ["y"], [sizes, fill, root], [opset], ["fill"]
    )
    call = helper.make_node(
        "Net", ["x", "w", "r"], ["y"], domain="local", fill=numpy_helper.from_array(f32([2]))
    )
    graph = helper.make_graph(
        [call],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (LENGTH, BATCH, INPUT))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, STATE.shape)],
        [
            numpy_helper.from_array(normal(1, HIDDEN, each), name)
            for name, each in (("w", INPUT), ("r", HIDDEN))
        ],
    )
    imports = [opset, helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, functions=[function])
    assert rewrite(model, RULE).fired == {}


@pytest.mark.parametrize(
    "makers",
    [
        [node("Identity", "state", "h")],
        [*FILLED, node("Identity", "z", "h")],
        [*SIZES, node("ConstantOfShape", "sizes", "h")],
        [node("Expand", "none shape", "h")],
        [node("Tile", "none pattern", "h")],
        [node("Gather", "table rows", "h")],
        [node("Cast", "whole", "h", to=1)],
        [*FILLED, node("Concat", "z state", "both", axis=0), node("Slice", "both one two", "h")],
        [*FILLED, node("Concat", "z z", "both", axis=0), node("Split", "both ones", "first h", axis=0)],
        [*FILLED, node("Transpose", "z", "t", perm=[0, 2, 1]), node("Reshape", "t shape", "h")],
        [*FILLED, node("Squeeze", "z from", "s"), node("Unsqueeze", "s from", "h")],
        [*FILLED, node("Mul", "z none", "h")],
    ],
    ids=lambda makers: (
        makers[-1].op_type if len(makers) < 4 else "+".join(each.op_type for each in makers[3:])
    ),
)
@pytest.mark.parametrize("batch", [BATCH, "batch"])
def test_fires(makers: Sequence[NodeProto], batch: int | str) -> None:
    constants = {"state": STATE, "from": np.array([0])}
    model = model_of(makers, constants, batch=batch)
    after = cleaned(model)
    assert after.fired[RULE] == 1
    assert after.ops == {"GRU": 1}
    assert inputs_of(after.model) == ["lengths"]
    assert_same_bits(model, after.model)
    assert rewrite(after.model, RULE).fired == {}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("number", [0.0, -0.0])
def test_fires_on_every_operator(op: str, direction: str, number: float) -> None:
    state = np.full((2 if direction == "bidirectional" else 1, BATCH, HIDDEN), number, np.float32)
    states = "h h p" if op == "LSTM" else "h"
    model = model_of(constants={"h": state}, op=op, states=states, direction=direction)
    after = cleaned(model)
    assert after.fired == {RULE: 1, "remove_unused_initializers": 1}
    assert inputs_of(after.model) == (["lengths", "", "", "p"] if op == "LSTM" else ["lengths"])
    assert_same_bits(model, after.model)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("h c", ["lengths", "", "c"]),
        ("c h", ["lengths", "c"]),
        ("- h", ["lengths"]),
        ("c h p", ["lengths", "c", "", "p"]),
    ],
)
def test_drops_only_the_state_that_is_zero(states: str, expected: list[str]) -> None:
    model = model_of(constants={"h": STATE}, op="LSTM", states=states, fed=["c"])
    after = cleaned(model)
    assert after.fired[RULE] == 1
    assert inputs_of(after.model) == expected
    assert_same_bits(model, after.model)


def test_zeros_that_others_read_stay_for_them() -> None:
    model = model_of([*FILLED, node("Identity", "z", "h"), node("Add", "z tiny", "other")])
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, STATE.shape))
    after = cleaned(model)
    assert after.ops["GRU"] == after.ops["ConstantOfShape"] == after.ops["Add"] == 1
    assert inputs_of(after.model) == ["lengths"]
    assert_same_bits(model, after.model)


def test_in_layout_1() -> None:
    """Onnxruntime has no kernel for it; onnx.reference has, without lengths and bias."""
    root = helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y", "y_h"], hidden_size=HIDDEN, layout=1)
    weights = {
        "w": normal(1, 3 * HIDDEN, INPUT),
        "r": normal(1, 3 * HIDDEN, HIDDEN),
        "h": zeros(BATCH, 1, HIDDEN),
    }
    model = make_model([root], {"x": (BATCH, LENGTH, INPUT)}, ["y", "y_h"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    feeds = random_feeds(model)
    for expected, actual in zip(
        *(ReferenceEvaluator(each).run(None, feeds) for each in (model, after.model)), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_of_16_bits() -> None:
    """Onnxruntime has no CPU kernel for it."""
    half = {
        name: normal(1, 3 * HIDDEN, size).astype(np.float16) for name, size in (("w", INPUT), ("r", HIDDEN))
    }
    nodes = [
        *SIZES,
        node("ConstantOfShape", "sizes", "z", value=numpy_helper.from_array(np.zeros(1, np.float16))),
        node("Slice", "z from to axes", "h"),
        helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y"], hidden_size=HIDDEN),
    ]
    known = half | {name: CONSTANTS[name] for name in ("one", "two", "from", "to", "axes")}
    model = make_model(nodes, {"x": (LENGTH, BATCH, INPUT)}, ["y"], known, dtype=TensorProto.FLOAT16)
    assert cleaned(model).ops == {"GRU": 1}
