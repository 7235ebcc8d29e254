"""eliminate_empty_parts: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import Dims

RULE = "eliminate_empty_parts"


def joined(dims: dict[str, Dims], axis: int, *, opset: int = 17) -> onnx.ModelProto:
    """Inputs of some shapes, each through a Neg, joined."""
    nodes = [node("Neg", name, f"{name}_") for name in dims]
    concat = node("Concat", " ".join(f"{name}_" for name in dims), "y", axis=axis)
    return make_model([*nodes, concat], dict(dims), ["y"], opset=opset)


@pytest.mark.parametrize(
    ("dims", "axis"),
    [
        pytest.param({"a": ["n", 2], "b": ["n", 1]}, 1, id="no part is empty"),
        pytest.param({"a": ["n", 2], "b": ["n", "m"]}, 1, id="a part may be empty"),
        pytest.param({"a": [2, 0], "b": [3, 0]}, 0, id="empty along another axis, whose size would change"),
        pytest.param({"a": ["n", 0]}, 1, id="nothing else"),
    ],
)
def test_keeps(dims: dict[str, Dims], axis: int) -> None:
    after = rewrite(joined(dims, axis), RULE)
    assert after.fired == {}
    assert after.ops["Concat"] == 1


@pytest.mark.parametrize(("opset", "axis"), [(8, 1), (13, 1), (13, -2), (21, -2)])
@pytest.mark.parametrize("place", range(3))
def test_fires(place: int, axis: int, opset: int) -> None:
    shapes: list[Dims] = [["n", 2, 4], ["n", "m", 4]]
    shapes.insert(place, ["n", 0, 4])
    dims = dict(zip("abc", shapes, strict=True))
    model = joined(dims, axis, opset=opset)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(next(each for each in after.model.graph.node if each.op_type == "Concat").input) == 2
    sizes = {"n": 2, "m": 3}
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.normal(size=[sizes[dim] if isinstance(dim, str) else dim or 0 for dim in shape]).astype(
            np.float32
        )
        for name, shape in dims.items()
    }
    assert_same_answers(model, after.model, feeds)


def test_one_is_left_of_empty_parts() -> None:
    model = joined({"a": [2, 0], "b": [2, 0]}, 1)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    empty = np.zeros((2, 0), np.float32)
    assert_same_answers(model, after.model, {"a": empty, "b": empty})
