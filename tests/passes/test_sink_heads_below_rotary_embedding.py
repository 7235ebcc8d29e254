"""sink_heads_below_rotary_embedding: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite
from tests.passes.fusions import assert_stays

RULE = "sink_heads_below_rotary_embedding"
NOT_SPLIT = "it is not made by splitting the last axis into heads"


def model(
    *,
    target: Sequence[int] = (0, 0, 4, 6),
    perm: Sequence[int] = (0, 2, 1, 3),
    x: Sequence[int | str] = ("batch", "positions", 24),
    cache: Sequence[int | str] = ("batch", "positions", 3),
    positions: bool = False,
    outputs: Sequence[str] = ("y",),
    **attributes: int,
) -> onnx.ModelProto:
    inputs = "heads cos sin ids" if positions else "heads cos sin"
    nodes = [
        node("Reshape", "x target", "split"),
        node("Transpose", "split", "heads", perm=list(perm)),
        node("RotaryEmbedding", inputs, "y", **attributes),
    ]
    if not positions:
        return make_model(
            nodes, {"x": x, "cos": cache, "sin": cache}, outputs, {"target": np.array(target)}, opset=23
        )
    made = make_model(nodes[:2], {"x": x}, ["heads"], {"target": np.array(target)}, opset=23)
    made.graph.node.append(nodes[2])
    for name in ("cos", "sin"):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]))
    made.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "positions"]))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "p", 6]))
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("attributes", [{}, {"num_heads": 4}, {"interleaved": 1}])
def test_rotates_before_the_split(attributes: dict[str, int]) -> None:
    built = model(**attributes)  # type: ignore[arg-type]
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    assert [each.op_type for each in after.model.graph.node] == ["RotaryEmbedding", "Reshape", "Transpose"]
    assert_same_answers(built, after.model, random_feeds(built, batch=2, positions=5), rtol=0)
    assert rewrite(after.model, RULE).fired == {}


def test_rotates_a_part_of_each_head() -> None:
    built = model(cache=("batch", "positions", 2), rotary_embedding_dim=4)
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(built, after.model, random_feeds(built, batch=2, positions=5), rtol=0)


def test_keeps_the_rows_that_positions_choose() -> None:
    built = model(positions=True)
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    feeds = random_feeds(built, batch=2, positions=5, rows=9)
    feeds["ids"] = np.array([[8, 1, 0, 3, 2], [1, 1, 7, 4, 5]])
    assert_same_answers(built, after.model, feeds, rtol=0)


def test_keeps_the_heads_that_others_read() -> None:
    built = model(outputs=["y", "heads"])
    after = rewrite(built, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(built, after.model, random_feeds(built, batch=2, positions=5), rtol=0)


def test_keeps_out_of_other_layouts() -> None:
    static = {"x": (4, 4, 24), "cache": (4, 4, 3)}
    assert_stays(model(perm=(2, 0, 1, 3), **static), RULE, NOT_SPLIT)  # type: ignore[arg-type]
    assert_stays(model(target=(2, 6, 4, 6), x=(3, 4, 24), cache=(2, 6, 3)), RULE, NOT_SPLIT)
    assert_stays(model(target=(2, -1, 4, 6), x=("rows", 24), cache=(2, "n", 3)), RULE, NOT_SPLIT)
