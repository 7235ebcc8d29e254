"""eliminate_noop_scatter: a scatter without updates, and one that may have some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept

RULE = "eliminate_noop_scatter"


def scatter(op: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, ["x", "indices", "updates"], ["y"], **attributes)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "indices", "updates"),
    [
        pytest.param(scatter("ScatterND"), (0, 1), (0, 4), id="ScatterND"),
        pytest.param(scatter("ScatterElements", axis=1), (3, 0), (3, 0), id="ScatterElements"),
        pytest.param(scatter("ScatterElements", reduction="add"), (0, 4), (0, 4), id="adding"),
    ],
)
def test_fires(where: str, node: NodeProto, indices: tuple[int, ...], updates: tuple[int, ...]) -> None:
    weights: dict[str, np.ndarray] = {
        "indices": np.zeros(indices, np.int64),
        "updates": np.zeros(updates, np.float32),
    }
    assert_dropped(RULE, where, [node], ("n", 4), weights, opset=18)


def test_keeps_what_writes() -> None:
    weights: dict[str, np.ndarray] = {
        "indices": np.zeros((1, 1), np.int64),
        "updates": np.zeros((1, 4), np.float32),
    }
    assert_kept(RULE, [scatter("ScatterND")], (3, 4), "it may write", weights)
