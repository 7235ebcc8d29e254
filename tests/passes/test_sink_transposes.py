"""sink_transposes: what cancels, what stays, and that whole networks lose their inner Transposes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, rewrite

RULE = "sink_transposes"
NOOP = "eliminate_noop_transpose"
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
Dims = Sequence[int | str | None]
RNG = np.random.default_rng(0)


def turn(source: str, target: str, *perm: int) -> onnx.NodeProto:
    return node("Transpose", source, target, perm=perm)


def weights(*shape: int) -> np.ndarray:
    return f32(RNG.normal(size=shape))


def sandwich(*middle: onnx.NodeProto, opset: int = 17, dims: Dims = ("n", 3, 4, 5)) -> onnx.ModelProto:
    """x [n, 3, 4, 5] ─ Transpose ─ a [n, 4, 5, 3] ─ middle ─ b ─ Transpose ─ y, as x."""
    constants = {"c": f32([[[1, 2, 3]]]), "big": weights(5, 3)}
    names = {name for each in middle for name in each.input}
    used = {name: data for name, data in constants.items() if name in names}
    nodes = [turn("x", "a", *TO_NHWC), *middle, turn("b", "y", *TO_NCHW)]
    return make_model(nodes, {"x": dims}, ["y"], used, opset=opset)


CANCELS = {
    "one operator": [node("Relu", "a", "b")],
    "a constant": [node("Add", "a c", "b")],
    "a constant first": [node("Sub", "c a", "b")],
    "a chain": [node("Exp", "a", "s"), node("Mul", "s big", "t"), node("Neg", "t", "b")],
    "a diamond": [node("Sigmoid", "a", "s"), node("Mul", "a s", "b")],
    "both operands": [node("Add", "a a", "b")],
    "along an axis": [
        node("Concat", "a a", "s", axis=3),
        node("ReduceMax", "s", "t", axes=[-1]),
        node("Add", "t a", "b"),
    ],
    "Split": [node("Split", "a", "s t", axis=2, split=[1, 4]), node("Concat", "t s", "b", axis=2)],
}


@pytest.mark.parametrize("case", CANCELS)
def test_cancels(case: str) -> None:
    model = sandwich(*CANCELS[case], opset=12)
    after = rewrite(model, RULE, NOOP)
    assert after.fired[RULE] == 1
    assert "Transpose" not in after.ops
    assert_same_answers(model, after.model)


def test_cancels_around_rows_times_a_matrix() -> None:
    """As PyTorch's MultiheadAttention exports: positions first, batch second."""
    nodes = [
        turn("x", "a", 1, 0, 2),
        node("MatMul", "a w", "p"),
        node("Add", "p c", "b"),
        turn("b", "y", 1, 0, 2),
    ]
    model = make_model(nodes, {"x": ("n", 5, 3)}, ["y"], {"w": weights(3, 4), "c": weights(4)})
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"MatMul": 1, "Add": 1}
    assert_same_answers(model, after.model)


def test_cancels_through_other_ranks() -> None:
    middle = [
        node("ReduceMean", "a", "s", axes=[2], keepdims=0),
        node("Unsqueeze", "s", "t", axes=[2]),
        node("Sub", "a t", "b"),
    ]
    model = sandwich(*middle, opset=11)
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"ReduceMean": 1, "Unsqueeze": 1, "Sub": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64])
def test_any_dtype(dtype: int) -> None:
    one = np.array([1, 2, 3], helper.tensor_dtype_to_np_dtype(dtype))
    nodes = [turn("x", "a", *TO_NHWC), node("Sub", "a c", "b"), turn("b", "y", *TO_NCHW)]
    model = make_model(nodes, {"x": [2, 3, 4, 5]}, ["y"], {"c": one}, dtype=dtype)
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"Sub": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21])
def test_every_opset(opset: int) -> None:
    model = sandwich(node("Mul", "a c", "b"), opset=opset)
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"Mul": 1}
    assert_same_answers(model, after.model)


def test_a_transpose_before_a_reduction_goes() -> None:
    """Global pooling of an NHWC network: the Transpose vanishes in the axes."""
    nodes = [turn("x", "a", *TO_NHWC), node("ReduceMean", "a", "y", axes=[1, 2], keepdims=0)]
    model = make_model(nodes, {"x": ["n", 3, 4, 5]}, ["y"])
    after = rewrite(model, RULE)
    assert after.ops == {"ReduceMean": 1}
    assert_same_answers(model, after.model)


def test_a_transpose_goes_where_the_tensor_is_small() -> None:
    nodes = [turn("x", "a", 2, 1, 0), node("ReduceSum", "a", "y", keepdims=0, axes=[1])]
    model = make_model(nodes, {"x": [20, 30, 40]}, ["y"], opset=12)
    after = rewrite(model, RULE)
    assert [each.op_type for each in after.model.graph.node] == ["ReduceSum", "Transpose"]
    assert_same_answers(model, after.model)
    up = [node("Expand", "x dims", "a"), turn("a", "y", 2, 1, 0)]
    model = make_model(up, {"x": [4, 1, 5]}, ["y"], {"dims": np.array([4, 300, 5])})
    after = rewrite(model, RULE, NOOP)
    assert [each.op_type for each in after.model.graph.node] == ["Transpose", "Expand"]
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(("axis", "left"), [(3, 1), (1, 0)])
def test_a_softmax_stays_on_the_last_axis(axis: int, left: int) -> None:
    """On any other axis onnxruntime transposes twice itself."""
    nodes = [
        turn("x", "a", *TO_NHWC),
        node("Softmax", "a", "b", axis=axis),
        node("ReduceMax", "b", "y", axes=[1, 2], keepdims=0),
    ]
    model = make_model(nodes, {"x": [2, 3, 40, 50]}, ["y"])
    after = rewrite(model, RULE)
    assert after.ops.get("Transpose", 0) == left
    assert_same_answers(model, after.model)


STAYS = {
    "nothing cancels": [turn("x", "a", *TO_NHWC), node("Relu", "a", "b"), node("MatMul", "b w", "y")],
    "another perm": [turn("x", "a", *TO_NHWC), node("MatMul", "a w", "b"), turn("b", "y", 0, 3, 1, 2)],
    "one for two": [turn("x", "a", *TO_NHWC), node("Add", "a z", "b"), node("MatMul", "b w", "y")],
    "it would be needed again": [
        turn("x", "a", *TO_NHWC),
        node("Relu", "a", "r"),
        node("MatMul", "r w", "y"),
    ],
    "a captured layout": [turn("x", "a", *TO_NHWC), node("Shape", "a", "s"), node("Cast", "s", "y", to=1)],
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    nodes = STAYS[case]
    data = {"w": weights(3, 2)} if any("w" in each.input for each in nodes) else {}
    inputs: dict[str, Dims] = {"x": ["n", 3, 4, 5]}
    if case == "one for two":
        inputs["z"] = ["n", 4, 5, 3]
    model = make_model(nodes, inputs, ["y"], data)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert [each.op_type for each in after.model.graph.node] == [each.op_type for each in nodes]


def test_an_operand_of_its_own_layout_gets_a_transpose() -> None:
    """Two large ones go, and a small one comes."""
    nodes = [turn("x", "a", *TO_NHWC), node("Mul", "a z", "b"), turn("b", "y", *TO_NCHW)]
    model = make_model(nodes, {"x": [2, 3, 40, 50], "z": [2, 40, 1, 3]}, ["y"])
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"Mul": 1, "Transpose": 1}
    assert_same_answers(model, after.model)


def test_composes_with_transposes_of_another_perm() -> None:
    nodes = [
        turn("x", "a", 0, 2, 1),
        turn("z", "b", 2, 1, 0),
        node("Add", "a b", "s"),
        turn("s", "t", 0, 2, 1),
        turn("s", "u", 1, 0, 2),
    ]
    model = make_model(nodes, {"x": [3, 4, 3], "z": [4, 3, 3]}, ["t", "u"])
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"Add": 1, "Transpose": 2}
    assert_same_answers(model, after.model)


def test_other_users_and_outputs_keep_their_layout_and_name() -> None:
    """Behind the sum the old layout is needed, for an output and for a product: one Transpose serves both."""
    nodes = [
        turn("x", "a", *TO_NHWC),
        turn("z", "b", *TO_NHWC),
        node("Add", "a b", "s"),
        node("MatMul", "s w", "t"),
        turn("s", "u", *TO_NCHW),
    ]
    model = make_model(nodes, {"x": [2, 3, 4, 5], "z": [2, 3, 4, 5]}, ["s", "t", "u"], {"w": weights(3, 2)})
    after = rewrite(model, RULE, NOOP)
    assert after.ops == {"Add": 1, "Transpose": 1, "MatMul": 1}
    assert_same_answers(model, after.model)


def test_two_outputs_stay_two() -> None:
    nodes = [turn("x", "a", 1, 0), node("Relu", "a", "b"), turn("b", "y", 1, 0), turn("b", "z", 1, 0)]
    model = make_model(nodes, {"x": [3, 4]}, ["y", "z"])
    after = rewrite(model, RULE, NOOP, "eliminate_common_subexpressions")
    assert_same_answers(model, after.model)
    assert len(after.model.graph.output) == 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_large_constant_is_copied_only_if_nobody_else_reads_it(shared: bool) -> None:
    nodes = [turn("x", "a", 1, 0), node("Add", "a c", "b"), turn("b", "y", 1, 0)]
    outputs = ["y"]
    if shared:
        nodes.append(node("Neg", "c", "z"))
        outputs.append("z")
    model = make_model(nodes, {"x": [60, 50]}, outputs, {"c": weights(50, 60)})
    after = rewrite(model, RULE)
    assert after.fired == ({} if shared else {RULE: 1})
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(("rows", "fires"), [(40, True), (4000, False)])
def test_a_large_table_keeps_its_rows_together(rows: int, fires: bool) -> None:
    nodes = [node("Gather", "table ids", "a"), turn("a", "y", 1, 0)]
    data = {"table": weights(rows, 8), "ids": np.arange(0, rows, 7)}
    model = make_model([*nodes, node("Add", "y x", "z")], {"x": [8, 1]}, ["z"], data)
    after = rewrite(model, RULE, NOOP)
    assert after.fired.get(RULE, 0) == fires
    assert_same_answers(model, after.model)


def test_keeps_out_without_a_rank() -> None:
    nodes = [turn("x", "a", 1, 0), node("Mul", "a s", "b"), turn("b", "y", 1, 0)]
    model = make_model(
        [node("Reshape", "z target", "s"), *nodes],
        {"x": [3, 3], "z": [3, 3]},
        ["y"],
        {"target": np.array([3, 3])},
    )
    assert rewrite(model, RULE).fired == {RULE: 1}
    model.graph.initializer.pop()
    model.graph.input.append(helper.make_tensor_value_info("target", TensorProto.INT64, ["rank"]))
    assert rewrite(model, RULE).fired == {}


def test_declared_shapes_of_values_that_change_are_gone() -> None:
    model = onnx.shape_inference.infer_shapes(
        sandwich(node("Exp", "a", "s"), node("Relu", "s", "b"), dims=(2, 3, 4, 5))
    )
    assert {info.name for info in model.graph.value_info} >= {"a", "s", "b"}
    after = rewrite(model, RULE, NOOP)
    onnx.checker.check_model(after.model, full_check=True)
    assert_same_answers(model, after.model)


def test_in_a_body() -> None:
    inner = [turn("x", "a", 1, 0), node("Mul", "a c", "b"), turn("b", "p", 1, 0)]
    then = helper.make_graph(inner, "then", [], [onnx.ValueInfoProto(name="p")])
    other = helper.make_graph([node("Neg", "x", "q")], "else", [], [onnx.ValueInfoProto(name="q")])
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Cast", "s", "flag", to=TensorProto.BOOL),
        node("If", "flag", "y", then_branch=then, else_branch=other),
    ]
    model = make_model(nodes, {"x": [3, 4]}, ["y"], {"c": f32([1, 2, 3])})
    after = rewrite(model, RULE, NOOP)
    assert "Transpose" not in after.ops
    for sign in (0, 1):
        assert_same_answers(model, after.model, {"x": np.full((3, 4), sign, np.float32)})


@pytest.mark.parametrize("parameter", [False, True])
def test_in_a_function(parameter: bool) -> None:
    inner = [turn("x", "a", 1, 0), node("Softplus", "a", "b"), turn("b", "y", 1, 0)]
    if parameter:
        inner[2].ClearField("attribute")
        inner[2].attribute.add(name="perm", ref_attr_name="order", type=onnx.AttributeProto.INTS)
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("test", "f", ["x"], ["y"], inner, imports, ["order"] if parameter else [])
    model = make_model([node("Softplus", "x", "y")], {"x": [3, 4]}, ["y"])
    model.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], domain="test"))
    if parameter:
        model.graph.node[0].attribute.append(helper.make_attribute("order", [1, 0]))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("test", 1))
    after = rewrite(model, RULE)
    assert after.fired == ({} if parameter else {RULE: 1})
    assert_same_answers(model, after.model)


def conv(source: str, target: str, number: int) -> list[onnx.NodeProto]:
    """A convolution of NHWC data, as TFLite converters write it."""
    return [
        turn(source, f"{target}_in", *TO_NCHW),
        node("Conv", f"{target}_in w{number}", f"{target}_out", pads=[1, 1, 1, 1]),
        turn(f"{target}_out", target, *TO_NHWC),
    ]


def test_a_network_in_nhwc_keeps_only_the_transpose_of_its_input() -> None:
    nodes = [
        *conv("x", "c1", 1),
        node("Add", "c1 bias", "a1"),
        node("Clip", "a1 zero six", "r1"),
        *conv("r1", "c2", 2),
        node("Add", "c2 r1", "a2"),
        node("PRelu", "a2 slope", "r2"),
        node("ReduceMean", "r2", "pooled", axes=[1, 2], keepdims=1),
        node("Sigmoid", "pooled", "gate"),
        node("Mul", "r2 gate", "scaled"),
        node("Pad", "scaled pads", "padded"),
        *conv("padded", "c3", 3),
        node("Slice", "c3 from to axes", "cut"),
        node("Concat", "cut scaled", "joined", axis=3),
        node("Softmax", "joined", "soft", axis=1),
        *conv("soft", "c4", 4),
        node("ReduceMax", "c4", "y", axes=[1, 2], keepdims=0),
    ]
    data = {
        "w1": weights(8, 3, 3, 3),
        **{f"w{number}": weights(8, 8, 3, 3) for number in (2, 3)},
        "w4": weights(4, 16, 3, 3),
        "bias": weights(8),
        "slope": weights(1, 1, 8),
        "zero": f32(0),
        "six": f32(6),
        "pads": np.array([0, 1, 0, 0, 0, 0, 1, 0]),
        "from": np.array([0, 1]),
        "to": np.array([10, 11]),
        "axes": np.array([1, -2]),
    }
    model = make_model(nodes, {"x": ["n", 10, 10, 3]}, ["y"], data)
    after = rewrite(model, RULE, NOOP)
    assert after.ops["Transpose"] == 1
    assert len(after.model.graph.node) == len(nodes) - 7
    assert_same_answers(model, after.model, random_feeds(model, n=2))
    assert rewrite(after.model, RULE, NOOP).fired == {}


@pytest.mark.parametrize(
    ("perm", "shape", "first"),
    [
        pytest.param(TO_NCHW, (3,), "Transpose", id="rows of three numbers become long"),
        pytest.param(TO_NCHW, (), "Add", id="one number meets any layout"),
        pytest.param(TO_NCHW, (3, 4, 3), "Add", id="rows are whole"),
        pytest.param(TO_NHWC, (3, 1, 1), "Add", id="rows are long already"),
    ],
)
def test_goes_before_a_constant_that_meets_short_rows(
    perm: tuple[int, ...], shape: tuple[int, ...], first: str
) -> None:
    nodes = [node("Add", "x c", "s"), turn("s", "t", *perm), node("Conv", "t w", "y")]
    dims = ("n", 3, 4, 3) if perm == TO_NCHW else ("n", 3, 4, 5)
    channels = 3 if perm == TO_NCHW else 4
    model = make_model(nodes, {"x": dims}, ["y"], {"c": weights(*shape), "w": weights(2, channels, 1, 1)})
    after = rewrite(model, RULE)
    assert after.model.graph.node[0].op_type == first
    assert_same_answers(model, after.model)
    assert not rewrite(after.model, RULE).fired


def test_its_own_result_costs_the_same_where_onnx_infers_no_shape() -> None:
    """As of a Slice whose axes are not in order, which is what this one becomes."""
    nodes = [
        turn("x", "a", 2, 1, 0),
        node("Slice", "a", "s", axes=[1, 2], starts=[0, 1], ends=[9, 9]),
        node("Sign", "s", "t"),
        node("MatMul", "t w", "y"),
    ]
    model = make_model(nodes, {"x": [4, 2, 4]}, ["y"], {"w": weights(3, 2)}, opset=9)
    after = rewrite(model)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
    assert rewrite(after.model).fired == {}
