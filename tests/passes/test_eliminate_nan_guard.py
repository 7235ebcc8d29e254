"""eliminate_nan_guard: what fires, and each thing that leaves a NaN possible once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite
from tests.passes.folds import in_branches

RULE = "eliminate_nan_guard"
WIDTH, VOCABULARY = 8, 11
TARGETS = {"rows": [-1, WIDTH], "back": [-1, 4, WIDTH], "sizes": [WIDTH] * 3}
LOWEST = float(np.finfo(np.float32).min)
NORMALIZED = [node("LayerNormalization", "e gamma beta", "n", epsilon=1e-5)]
PROJECTED = [node("MatMul", "n wq", "q"), node("MatMul", "n wk", "k"), node("MatMul", "n wv", "v")]
SCORED = [
    node("Transpose", "k", "kt", perm=[0, 2, 1]),
    node("MatMul", "q kt", "products"),
    node("Mul", "products scale", "scaled"),
]
MASKED = [node("Where", "visible zero hidden", "mask"), node("Add", "scaled mask", "scores")]
GUARDED = [node("Softmax", "scores", "p"), node("IsNaN", "p", "isnan"), node("Where", "isnan zero p", "safe")]
ENDED = [node("MatMul", "safe v", "y")]
ATTENTION = [node("Gather", "table x", "e"), *NORMALIZED, *PROJECTED, *SCORED, *MASKED, *GUARDED, *ENDED]


def weights(**changed: npt.ArrayLike) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made: dict[str, npt.ArrayLike] = {
        "table": rng.normal(size=(VOCABULARY, WIDTH)),
        "gamma": rng.uniform(-2, 2, WIDTH),
        "beta": rng.normal(size=WIDTH),
        **{name: rng.normal(size=(WIDTH, WIDTH)) for name in ("wq", "wk", "wv")},
        "w": rng.normal(size=(WIDTH, 3 * WIDTH)),
        "scale": np.array(0.35),
        "zero": np.array(0),
        "hidden": np.array(LOWEST),
        **changed,
    }
    return {name: f32(array) for name, array in made.items()}


def attention(
    nodes: Sequence[onnx.NodeProto] = ATTENTION,
    *,
    changed: Mapping[str, npt.ArrayLike] | None = None,
    visible: np.ndarray | None = None,
    outputs: Sequence[str] = ("y",),
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    """Attention over token ids [batch, seq]; `visible` is a constant mask, by default all of 4 positions."""
    constants = {
        **weights(**(changed or {})),
        "visible": np.ones((4, 4), bool) if visible is None else visible,
        **{name: np.array(target) for name, target in TARGETS.items()},
    }
    used = {name for each in nodes for name in each.input}
    return make_model(
        nodes,
        {"x": ["batch", 4]} if "table" in used else {"e": ["batch", 4, WIDTH]},
        outputs,
        {name: array for name, array in constants.items() if name in used},
        dtype=TensorProto.INT64 if "table" in used else TensorProto.FLOAT,
        overridable=overridable,
    )


def assert_drops(model: onnx.ModelProto, times: int = 1) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: times}
    assert "IsNaN" not in after.ops
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (3, 4))
    assert_same_answers(model, after.model, {"x": ids}, rtol=0)
    assert rewrite(after.model, RULE).fired == {}


def assert_keeps(model: onnx.ModelProto, reason: str = "its input may be NaN") -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert set(after.declined.get(RULE, {})) == ({reason} if reason else set())


def replaced(nodes: Sequence[onnx.NodeProto], output: str, *by: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [new for old in nodes for new in (by if output in old.output else (old,))]


def test_drops_the_guard_of_bounded_scores() -> None:
    assert_drops(attention())


def test_a_row_that_is_hidden_throughout_is_finite() -> None:
    assert_drops(attention(visible=np.tri(4, k=-1, dtype=bool)))


def test_drops_every_guard_of_a_stack() -> None:
    second = [
        onnx.helper.make_node(
            each.op_type,
            [name if name in weights() or name == "visible" else f"{name}2" for name in each.input],
            [f"{name}2" for name in each.output],
            **{a.name: onnx.helper.get_attribute_value(a) for a in each.attribute},
        )
        for each in ATTENTION[1:]
    ]
    between = [
        node("Mul", "y y", "squares"),
        node("Sigmoid", "squares", "gates"),
        node("Mul", "gates y", "gated"),
        node("Reshape", "gated rows", "flat"),
        node("Gemm", "flat wv beta", "fed"),
        node("Reshape", "fed back", "e2"),
    ]
    assert_drops(attention([*ATTENTION, *between, *second], outputs=["y2"]), times=2)


def test_takes_a_projection_in_one_piece() -> None:
    split = [node("MatMul", "n w", "qkv"), node("Split", "qkv sizes", "q k v", axis=-1)]
    assert_drops(attention([*ATTENTION[:2], *split, *ATTENTION[5:]]))


def test_drops_it_at_a_graph_output() -> None:
    assert_drops(attention(ATTENTION[:-1], outputs=["safe"]))


def test_keeps_a_test_that_others_read() -> None:
    model = attention(outputs=["y", "isnan"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops["IsNaN"] == 1
    assert_same_answers(model, after.model, {"x": np.array([[1, 2, 3, 0]])}, rtol=0)


def test_two_graph_outputs_stay_two() -> None:
    assert_keeps(attention(ATTENTION[:-1], outputs=["safe", "p"]), "the result is a graph output")


def test_drops_it_in_both_branches_of_an_if() -> None:
    model = in_branches(attention())
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for flag in (True, False):
        feeds = {"x": np.array([[1, 2, 3, 0]]), "flag": np.array(flag)}
        assert_same_answers(model, after.model, feeds, rtol=0)


def test_keeps_out_of_floats_that_are_fed() -> None:
    assert_keeps(attention(ATTENTION[1:]))
    assert_keeps(attention(ATTENTION, overridable=["table"]))


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_keeps_out_of_a_mask_that_is_not_finite(value: float) -> None:
    model = attention(changed={"hidden": value}, visible=np.tri(4, k=-1, dtype=bool))
    assert_keeps(model)


@pytest.mark.parametrize("name", ["table", "gamma", "beta", "wq", "wk", "wv"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_keeps_out_of_weights_that_are_not_finite(name: str, value: float) -> None:
    array = weights()[name]
    array.flat[3] = value
    model = attention(changed={name: array})
    if name == "wv":  # it comes after the guard
        assert_drops(model)
    else:
        assert_keeps(model)


@pytest.mark.parametrize("name", ["wq", "table"])
def test_keeps_out_of_what_may_overflow(name: str) -> None:
    assert_keeps(attention(changed={name: 1e30 * weights()[name], "wk": 1e10 * weights()["wk"]}))


def test_keeps_out_of_two_masks_that_add_up_beyond_the_largest_number() -> None:
    twice = [MASKED[0], node("Add", "scaled mask", "once"), node("Add", "once mask", "scores")]
    nodes = [*ATTENTION[:8], *twice, *GUARDED, *ENDED]
    assert_keeps(attention(nodes))
    assert_drops(attention(nodes, changed={"hidden": -1e37}))


def test_keeps_out_of_quotients_by_what_may_vanish() -> None:
    divided = replaced(ATTENTION, "scaled", node("Div", "products scale", "scaled"))
    assert_drops(attention(divided))
    assert_keeps(attention(divided, changed={"scale": 0}))
    assert_keeps(attention(replaced(ATTENTION, "scaled", node("Div", "products products", "scaled"))))


def test_keeps_out_of_other_values_in_place_of_a_nan() -> None:
    wider = replaced(ATTENTION, "safe", node("Where", "isnan other p", "safe"))
    assert_drops(attention(wider, changed={"other": np.zeros((1, 1))}))
    assert_keeps(attention(wider, changed={"other": np.zeros((1, 1, 1, 1))}), "")
    assert_keeps(attention(replaced(ATTENTION, "isnan", node("IsNaN", "scores", "isnan"))), "")
    assert_keeps(attention(replaced(ATTENTION, "isnan", node("IsInf", "p", "isnan"))), "")


@pytest.mark.parametrize("root", ["Sqrt", "Log", "Exp"])
def test_keeps_out_of_functions_that_are_not_bounded(root: str) -> None:
    made = [node("Mul", "products scale", "half"), node(root, "half", "scaled")]
    assert_keeps(attention(replaced(ATTENTION, "scaled", *made)))
