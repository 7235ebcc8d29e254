"""spell_gather_nd: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "spell_gather_nd"
NOT_A_COLUMN = "they are not known to be one number each"


def gathered(coordinates: object, dims: Dims, **attributes: int) -> onnx.ModelProto:
    """GatherND at constant coordinates."""
    weights = {"at": np.array(coordinates, np.int64)}
    return chain([node("GatherND", "x at", "y", **attributes)], dims, weights)


@pytest.mark.parametrize(
    ("coordinates", "attributes", "reason"),
    [
        pytest.param([[0, 1]], {}, NOT_A_COLUMN, id="two numbers each"),
        pytest.param([0, 1], {}, NOT_A_COLUMN, id="one pair"),
        pytest.param([[0], [1]], {"batch_dims": 1}, "each batch has coordinates of its own", id="batches"),
    ],
)
def test_keeps(coordinates: object, attributes: dict[str, int], reason: str) -> None:
    assert_stays(RULE, gathered(coordinates, [2, 5, 3], **attributes), reason)


@pytest.mark.parametrize(
    ("axes", "dims"), [([0], [1]), ([0, 2], ["n"])], ids=["another axis", "several axes"]
)
def test_keeps_what_else_unsqueezes(axes: list[int], dims: Dims) -> None:
    nodes = [node("Unsqueeze", "i axes", "at"), node("GatherND", "x at", "y")]
    model = make_model(nodes, {"x": [6, 4], "i": dims}, ["y"], ints(axes=axes), dtype=TensorProto.INT64)
    assert_stays(RULE, model, NOT_A_COLUMN)


def test_keeps_texts() -> None:
    # onnxruntime's Gather copies but the first text of each row.
    weights = {"at": np.array([[1], [0]])}
    model = make_model(
        [node("GatherND", "x at", "y")], {"x": [3, 2]}, ["y"], weights, dtype=TensorProto.STRING
    )
    assert_stays(RULE, model, "Gather may not take texts")


def test_keeps_coordinates_that_the_caller_may_override() -> None:
    nodes = [node("GatherND", "x at", "y")]
    assert_stays(RULE, chain(nodes, [5, 2], ints(at=[0]), overridable=["at"]), NOT_A_COLUMN)


@pytest.mark.parametrize("coordinates", [[2], [[0], [-1], [3]], [[[1], [2]], [[-5], [4]]]])
@pytest.mark.parametrize("dims", [[5, 2], [5, "n", 3]])
def test_fires_on_constants(coordinates: object, dims: Dims) -> None:
    assert_merges(RULE, gathered(coordinates, dims), {"Gather": 1})


@pytest.mark.parametrize(("axis", "opset"), [(-1, 13), (2, 13), (-1, 11)])
def test_fires_on_unsqueezed(axis: int, opset: int) -> None:
    attributes = {"axes": [axis]} if opset < 13 else {}
    nodes = [
        node("Unsqueeze", "i" if attributes else "i axes", "at", **attributes),
        node("GatherND", "in at", "out"),
    ]
    weights = {} if attributes else ints(axes=[axis])
    model = make_model(
        nodes, {"in": [6, "m"], "i": ["n", "k"]}, ["out"], weights, opset=opset, dtype=TensorProto.INT64
    )
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Gather": 1}
    rng = np.random.default_rng(0)
    assert_same_answers(
        model, after.model, {"in": rng.integers(-99, 99, (6, 2)), "i": rng.integers(-6, 6, (3, 2))}
    )
