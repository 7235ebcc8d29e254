"""eliminate_repeated_heads: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.fusions import assert_fuses, assert_stays

RULE = "eliminate_repeated_heads"
DIFFERENT = "keys and values do not repeat each head as often"
Shape = Sequence[int | str | None]


def repeated(name: str) -> list[onnx.NodeProto]:
    return [
        node("Unsqueeze", f"{name} {name}_axis", f"{name}_alone"),
        node("Expand", f"{name}_alone {name}_sizes", f"{name}_spread"),
        node("Reshape", f"{name}_spread {name}_join", f"{name}_heads"),
    ]


NODES = [*repeated("k"), *repeated("v"), node("Attention", "q k_heads v_heads", "y", scale=0.3)]


def model(
    nodes: Sequence[onnx.NodeProto] = NODES,
    inputs: Mapping[str, Shape] | None = None,
    weights: Mapping[str, Sequence[int]] | None = None,
    *,
    opset: int = 23,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Six heads of queries, and two of keys and values that are repeated three times each."""
    shapes: dict[str, Shape] = {
        "q": ["batch", 6, 5, 4],
        "k": ["batch", 2, 7, 4],
        "v": ["batch", 2, 7, 3],
        **(inputs or {}),
    }
    constants = {
        **{f"{name}_axis": [2] for name in "kv"},
        **{f"{name}_sizes": [1, 1, 3, 1, 1] for name in "kv"},
        "k_join": [0, 6, 7, 4],
        "v_join": [0, 6, 7, 3],
        **(weights or {}),
    }
    used = {name for each in nodes for name in each.input}
    return make_model(
        nodes,
        {name: shape for name, shape in shapes.items() if name in used},
        outputs,
        {name: np.array(values) for name, values in constants.items() if name in used},
        opset=opset,
    )


@pytest.mark.parametrize("opset", [23, 24])
def test_reads_each_head_for_three_queries(opset: int) -> None:
    assert_fuses(model(opset=opset), RULE, leaves={"Attention": 1}, rtol=0)


def test_keeps_a_mask() -> None:
    masked = [*NODES[:-1], node("Attention", "q k_heads v_heads mask", "y")]
    assert_fuses(model(masked, {"mask": [5, 7]}), RULE, leaves={"Attention": 1}, rtol=0)


def test_keeps_what_others_read() -> None:
    built = model([*NODES, node("Neg", "k_heads", "other")], outputs=["y", "other"])
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Unsqueeze": 1, "Expand": 1, "Reshape": 1, "Attention": 1, "Neg": 1}
    assert_same_answers(built, after.model, rtol=0)


def test_keeps_out_of_heads_that_alternate() -> None:
    """Tiled heads stand 0 1 0 1 0 1; Attention reads 0 0 0 1 1 1."""
    tiled = {f"{name}_axis": [1] for name in "kv"} | {f"{name}_sizes": [1, 3, 1, 1, 1] for name in "kv"}
    assert_stays(model(weights=tiled), RULE, DIFFERENT)


def test_keeps_out_of_one_head_that_becomes_two() -> None:
    spread = {f"{name}_sizes": [1, 2, 3, 1, 1] for name in "kv"}
    built = model(inputs={"k": ["batch", 1, 7, 4], "v": ["batch", 1, 7, 3]}, weights=spread)
    assert_stays(built, RULE, DIFFERENT)


def test_keeps_out_of_keys_and_values_that_differ() -> None:
    built = model(inputs={"v": ["batch", 3, 7, 3]}, weights={"v_sizes": [1, 1, 2, 1, 1]})
    assert_stays(built, RULE, DIFFERENT)


def test_keeps_out_of_an_unknown_number_of_heads() -> None:
    built = model(inputs={"k": ["batch", "heads", 7, 4], "v": ["batch", "heads", 7, 3]})
    assert_stays(built, RULE, DIFFERENT)


def test_keeps_out_of_more_queries_than_keys() -> None:
    built = model(inputs={"q": ["batch", 12, 5, 4]})
    assert_stays(built, RULE, "there are not as many heads of queries")
