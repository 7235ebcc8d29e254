"""fuse_attention: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, rewrite
from tests.passes.fusions import assert_stays

RULE = "fuse_attention"
LOWEST = float(np.finfo(np.float32).min)
Q, K = [2, 3, 5, 4], [2, 3, 5, 4]
TURN = node("Transpose", "k", "kt", perm=[0, 1, 3, 2])
PRODUCT = node("MatMul", "q kt", "products")
SCALE = node("Mul", "products scale", "scaled")
MASK = node("Add", "scaled mask", "masked")
PLAIN = [TURN, PRODUCT, SCALE, node("Softmax", "scaled", "p", axis=-1), node("MatMul", "p v", "y")]
CAUSAL = [TURN, PRODUCT, SCALE, MASK, node("Softmax", "masked", "p", axis=-1), node("MatMul", "p v", "y")]
COMPUTED = [
    node("Range", "start length step", "positions"),
    node("Unsqueeze", "positions last", "keys"),
    node("Unsqueeze", "positions first", "queries"),
]
CHOSEN = [node("LessOrEqual", "keys queries", "seen"), node("Where", "seen shown hidden", "mask")]


def causal(size: int = 5, hidden: float = LOWEST) -> np.ndarray:
    return np.where(np.tri(size, dtype=bool), np.float32(0), np.float32(hidden))


def spelled(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    weights: Mapping[str, object] | None = None,
    *,
    opset: int = 23,
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    floats = {"scale": 0.35, "mask": causal(), "shown": 0, "hidden": LOWEST, **(weights or {})}
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    with np.errstate(over="ignore"):  # the lowest float32 is -inf in float16
        constants = {name: np.asarray(value).astype(numpy_dtype) for name, value in floats.items()}
    constants |= {name: np.array(value) for name, value in (("start", 0), ("length", 5), ("step", 1))}
    constants |= {"last": np.array([0]), "first": np.array([1])}
    made = {name for each in nodes for name in each.output}
    used = {name for each in nodes for name in each.input} - made
    return make_model(
        nodes,
        {"q": Q, "k": K, "v": K, **(inputs or {})},
        outputs,
        {name: value for name, value in constants.items() if name in used},
        opset=opset,
        dtype=dtype,
    )


def assert_fuses(
    model: onnx.ModelProto, *, is_causal: bool, feeds: Mapping[str, np.ndarray] | None = None
) -> None:
    after = rewrite(model, RULE, "remove_dead_nodes", "remove_unused_initializers")
    assert after.fired[RULE] == 1
    attention = next(each for each in after.model.graph.node if each.op_type == "Attention")
    assert {each.name: each.i for each in attention.attribute}["is_causal"] == int(is_causal)
    assert "Softmax" not in after.ops
    assert_same_answers(model, after.model, feeds, rtol=1e-6)
    assert RULE not in rewrite(after.model, RULE).fired


def without(nodes: Sequence[onnx.NodeProto], op_type: str, old: str, new: str) -> list[onnx.NodeProto]:
    kept = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes if each.op_type != op_type]
    for each in kept:
        each.input[:] = [new if name == old else name for name in each.input]
    return kept


@pytest.mark.parametrize("opset", [23, 24])
def test_fuses_what_sees_everything(opset: int) -> None:
    assert_fuses(spelled(PLAIN, {"k": [2, 3, 7, 4], "v": [2, 3, 7, 6]}, opset=opset), is_causal=False)


@pytest.mark.parametrize("opset", [23, 24])
def test_fuses_what_sees_what_came_before(opset: int) -> None:
    assert_fuses(spelled(CAUSAL, opset=opset), is_causal=True)


def test_fuses_a_mask_that_is_computed() -> None:
    assert_fuses(spelled([*COMPUTED, *CHOSEN, *CAUSAL]), is_causal=True)
    turned = [node("GreaterOrEqual", "queries keys", "seen"), CHOSEN[1]]
    assert_fuses(spelled([*COMPUTED, *turned, *CAUSAL]), is_causal=True)


def test_fuses_without_a_scale_and_with_a_divisor() -> None:
    assert_fuses(spelled(without(PLAIN, "Mul", "scaled", "products")), is_causal=False)
    divided = [TURN, PRODUCT, node("Div", "products scale", "scaled"), *PLAIN[3:]]
    assert_fuses(spelled(divided, weights={"scale": 2.83}), is_causal=False)


def test_fuses_operands_in_either_order() -> None:
    mirrored = [
        TURN,
        PRODUCT,
        node("Mul", "scale products", "scaled"),
        node("Add", "mask scaled", "masked"),
        *CAUSAL[4:],
    ]
    assert_fuses(spelled(mirrored), is_causal=True)


def test_turns_keys_that_have_the_positions_first() -> None:
    turned = [node("Transpose", "k", "kt", perm=[0, 2, 3, 1]), *PLAIN[1:]]
    assert_fuses(spelled(turned, {"k": [2, 5, 3, 4]}), is_causal=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("operand", ["q", "k", "v"])
@pytest.mark.parametrize("nodes", [PLAIN, CAUSAL])
def test_keeps_what_is_not_a_number(nodes: list[onnx.NodeProto], operand: str, value: float) -> None:
    model = spelled(nodes)
    feeds = random_feeds(model)
    feeds[operand][0, 1, 3, 0] = value
    feeds[operand][1, 0, 0, 2] = value
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, feeds, rtol=1e-5)


def test_keeps_out_before_opset_23_and_of_other_types() -> None:
    reason = "Attention is there for float32 since opset 23"
    assert_stays(spelled(PLAIN, opset=22), RULE, reason)
    assert_stays(spelled(PLAIN, dtype=TensorProto.FLOAT16), RULE, reason)
    assert_stays(spelled(PLAIN, dtype=TensorProto.DOUBLE), RULE, reason)


def test_keeps_out_of_softmax_along_another_axis() -> None:
    other = [*PLAIN[:3], node("Softmax", "scaled", "p", axis=2), PLAIN[4]]
    assert_stays(spelled(other), RULE, "Softmax is not along the positions")


def test_keeps_out_of_keys_in_another_order() -> None:
    other = [node("Transpose", "k", "kt", perm=[1, 0, 3, 2]), *PLAIN[1:]]
    assert_stays(spelled(other, {"k": [3, 2, 5, 4]}), RULE, "the keys are turned in another way")


def test_keeps_out_of_three_axes_and_of_broadcasts() -> None:
    three = {"q": [2, 5, 4], "k": [2, 5, 4], "v": [2, 5, 4]}
    flat = [node("Transpose", "k", "kt", perm=[0, 2, 1]), *PLAIN[1:]]
    assert_stays(spelled(flat, three), RULE, "the keys are turned in another way")
    assert_stays(spelled(PLAIN, {"v": [5, 4]}), RULE, "the operands do not have four axes")
    assert_stays(spelled(PLAIN, {"k": [1, 3, 5, 4]}), RULE, "the operands are broadcast")
    assert_stays(spelled(PLAIN, {"v": [2, 1, 5, 4]}), RULE, "the operands are broadcast")


def test_keeps_out_of_what_may_be_empty() -> None:
    reason = "onnxruntime's Attention takes no empty operands"
    dynamic: dict[str, Sequence[int | str | None]] = {name: ["batch", 3, "positions", 4] for name in "qkv"}
    assert_stays(spelled(PLAIN, dynamic), RULE, reason)
    assert_stays(spelled(PLAIN, {name: [2, 3, 0, 4] for name in "qkv"}), RULE, reason)


@pytest.mark.parametrize("scale", [-0.35, 0, np.inf, np.nan, [[[[0.1]], [[0.2]], [[0.3]]]]])
def test_keeps_out_of_other_scales(scale: object) -> None:
    assert_stays(spelled(PLAIN, weights={"scale": scale}), RULE, "the scale is not one positive number")


@pytest.mark.parametrize(
    "mask",
    [
        causal(hidden=-np.inf),
        causal(hidden=-1e4),
        causal().T.copy(),
        np.zeros((5, 5)),
        causal() + np.eye(5, dtype=np.float32),
        causal()[-1:],
        np.stack([causal(), causal().T])[:, None],
        np.full((5, 5), LOWEST),
        causal()[None, None, None],
        0,
    ],
)
def test_keeps_out_of_other_masks(mask: np.ndarray) -> None:
    model = spelled(CAUSAL, weights={"mask": f32(mask)})
    assert_stays(model, RULE, "the mask does not hide what comes after a position")


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden": -1e4},
        {"hidden": -np.inf},
        {"shown": 1},
        {"hidden": np.full((1, 5), LOWEST)},
    ],
)
def test_keeps_out_of_other_choices(changed: dict[str, object]) -> None:
    model = spelled([*COMPUTED, *CHOSEN, *CAUSAL], weights=changed)
    assert_stays(model, RULE, "the mask does not hide what comes after a position")


@pytest.mark.parametrize(
    "comparison", ["GreaterOrEqual keys queries", "LessOrEqual queries keys", "Less keys queries"]
)
def test_keeps_out_of_other_comparisons(comparison: str) -> None:
    op_type, *inputs = comparison.split()
    nodes = [*COMPUTED, node(op_type, " ".join(inputs), "seen"), CHOSEN[1], *CAUSAL]
    assert_stays(spelled(nodes), RULE, "the mask does not hide what comes after a position")


def test_keeps_out_of_more_keys_than_queries_under_a_mask() -> None:
    model = spelled(
        CAUSAL, {"k": [2, 3, 7, 4], "v": [2, 3, 7, 4]}, {"mask": f32(np.triu(np.full((5, 7), LOWEST), 1))}
    )
    assert_stays(model, RULE, "the mask does not hide what comes after a position")


@pytest.mark.parametrize("output", ["products", "scaled", "masked", "p"])
def test_leaves_inner_values_that_are_outputs(output: str) -> None:
    model = spelled(CAUSAL, outputs=["y", output])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert any("is a graph output" in reason for reason in after.declined[RULE])
