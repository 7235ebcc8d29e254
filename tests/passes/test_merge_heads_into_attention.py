"""merge_heads_into_attention: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite
from tests.passes.fusions import assert_fuses, assert_stays

RULE = "merge_heads_into_attention"
NOT_SPLIT = "an operand is not made by splitting the last axis into heads"
SWAP = [0, 2, 1, 3]
BACK = node("Transpose", "o", "y", perm=SWAP)
Shape = Sequence[int | str | None]


def split(name: str, perm: Sequence[int] = SWAP) -> list[onnx.NodeProto]:
    return [
        node("Reshape", f"{name} {name}_target", f"{name}_split"),
        node("Transpose", f"{name}_split", f"{name}_heads", perm=list(perm)),
    ]


ATTENTION = node("Attention", "q_heads k_heads v_heads", "o", scale=0.3)
NODES = [*split("q"), *split("k"), *split("v"), ATTENTION, BACK]


def model(
    nodes: Sequence[onnx.NodeProto] = NODES,
    inputs: Mapping[str, Shape] | None = None,
    targets: Mapping[str, Sequence[int]] | None = None,
    *,
    opset: int = 23,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Attention of 4 heads of 6 over q [batch, queries, 24], k and v [batch, keys, 24]."""
    shapes: dict[str, Shape] = {
        "q": ["batch", "queries", 24],
        "k": ["batch", "keys", 24],
        "v": ["batch", "keys", 24],
        **(inputs or {}),
    }
    weights = {f"{name}_target": np.array([0, 0, 4, 6]) for name in "qkv"}
    weights |= {f"{name}_target": np.array(target) for name, target in (targets or {}).items()}
    used = {name for each in nodes for name in each.input}
    return make_model(
        nodes,
        {name: shape for name, shape in shapes.items() if name in used},
        outputs,
        {name: array for name, array in weights.items() if name in used},
        opset=opset,
    )


@pytest.mark.parametrize("opset", [23, 24])
def test_lets_attention_split_and_join(opset: int) -> None:
    assert_fuses(model(opset=opset), RULE, leaves={"Attention": 1, "Reshape": 1}, rtol=0)


def test_keeps_groups_of_queries_and_wider_values() -> None:
    grouped = model(
        inputs={"k": ["batch", "keys", 12], "v": ["batch", "keys", 10]},
        targets={"k": [0, 0, 2, 6], "v": [0, 0, 2, 5]},
    )
    after = assert_fuses(grouped, RULE, leaves={"Attention": 1, "Reshape": 1}, rtol=0)
    attention = next(each for each in after.model.graph.node if each.op_type == "Attention")
    heads = {each.name: each.i for each in attention.attribute}
    assert (heads["q_num_heads"], heads["kv_num_heads"]) == (4, 2)


def test_keeps_mask_and_attributes() -> None:
    masked = [
        *NODES[:-2],
        node("Attention", "q_heads k_heads v_heads mask", "o", scale=0.3, softcap=2.0),
        BACK,
    ]
    built = model(masked, {"mask": ["queries", "keys"]})
    feeds = random_feeds(built, queries=5, keys=5)
    assert_fuses(built, RULE, leaves={"Attention": 1, "Reshape": 1}, feeds=feeds, rtol=0)
    hidden = [*NODES[:-2], node("Attention", "q_heads k_heads v_heads", "o", is_causal=1), BACK]
    assert_fuses(model(hidden), RULE, leaves={"Attention": 1, "Reshape": 1}, rtol=0)


def test_leaves_no_reshape_where_the_heads_are_joined() -> None:
    joined = model(
        [*NODES[:-1], node("Transpose", "o", "t", perm=SWAP), node("Reshape", "t y_target", "y")],
        targets={"y": [0, 0, 24]},
    )
    after = rewrite(joined)
    assert after.ops == {"Attention": 1}
    assert_same_answers(joined, after.model, rtol=0)


def test_keeps_what_others_read() -> None:
    built = model([*NODES, node("Neg", "k_heads", "other")], outputs=["y", "other"])
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Attention": 1, "Reshape": 2, "Transpose": 1, "Neg": 1}
    assert_same_answers(built, after.model, rtol=0)


def test_keeps_out_of_results_in_another_order() -> None:
    other = [*NODES[:-1], node("Transpose", "o", "y", perm=[0, 2, 3, 1])]
    assert_stays(model(other), RULE, "the result is not turned back")


@pytest.mark.parametrize("operand", ["q", "k", "v"])
def test_keeps_out_of_operands_in_another_order(operand: str) -> None:
    turned = {name: split(name, [2, 0, 1, 3] if name == operand else SWAP) for name in "qkv"}
    built = model(
        [*turned["q"], *turned["k"], *turned["v"], ATTENTION, BACK],
        {name: [4, 4, 24] for name in "qkv"},
    )
    assert_stays(built, RULE, NOT_SPLIT)


def test_keeps_out_of_batches_that_are_folded_in() -> None:
    folded = model(inputs={"q": ["rows", 24]}, targets={"q": [-1, 5, 4, 6]})
    assert_stays(folded, RULE, NOT_SPLIT)
    moved = model(inputs={"q": [2, 6, 24]}, targets={"q": [3, 4, 4, 6]})
    assert_stays(moved, RULE, NOT_SPLIT)


def test_keeps_out_of_attention_whose_scores_are_read() -> None:
    scored = [*NODES[:-2], node("Attention", "q_heads k_heads v_heads", "o present_k present_v scores"), BACK]
    assert_stays(model(scored, outputs=["y", "scores"]), RULE, "the result of Attention is a graph output")


def test_keeps_out_of_a_cache() -> None:
    cached = [
        *NODES[:-2],
        node("Attention", "q_heads k_heads v_heads mask past_k past_v", "o present_k present_v"),
        BACK,
    ]
    past: Shape = ["batch", 4, "past", 6]
    built = model(cached, {"mask": ["queries", "all"], "past_k": past, "past_v": past})
    assert_stays(built, RULE, "")
