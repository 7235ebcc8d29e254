"""merge_splits: what it keeps out of, then what fires."""

from __future__ import annotations

import onnx
import pytest

from tests.helpers import assert_same_answers, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain, ints
from tests.passes.folds import flags, in_branches

RULE = "merge_splits"


def nested(*, axes: tuple[int, int] = (1, 1), opset: int = 17, use: str = "") -> onnx.ModelProto:
    """x [n, 6] in parts of 1, 3 and 2, the second of them in parts of 1 and 2; joined in another order."""
    old = opset < 13
    nodes = [
        node("Split", "x" if old else "x a", "p q r", axis=axes[0], **({"split": [1, 3, 2]} if old else {})),
        node("Split", "q" if old else "q b", "s t", axis=axes[1], **({"split": [1, 2]} if old else {})),
        node("Concat", f"r t p s {use}".strip(), "y", axis=1),
    ]
    return chain(nodes, ["n", 6], {} if old else ints(a=[1, 3, 2], b=[1, 2]), opset=opset)


@pytest.mark.parametrize(("opset", "axes"), [(9, (1, 1)), (13, (1, -1)), (13, (-1, 1)), (18, (1, 1))])
def test_fires(axes: tuple[int, int], opset: int) -> None:
    assert_merges(RULE, nested(axes=axes, opset=opset), {"Split": 1, "Concat": 1})


def test_fires_on_equal_parts_and_several_levels() -> None:
    nodes = [
        node("Split", "x", "p q", axis=1, num_outputs=2),
        node("Split", "p", "r s", axis=1, num_outputs=2),
        node("Split", "q", "t u", axis=1, num_outputs=2),
        node("Split", "r", "v w", axis=1, num_outputs=2),
        node("Concat", "u s w t v", "y", axis=1),
    ]
    assert_merges(RULE, chain(nodes, ["n", 8], opset=18), {"Split": 1, "Concat": 1}, times=3)


def test_keeps_the_names_of_graph_outputs() -> None:
    nodes = [
        node("Split", "x a", "p q", axis=1),
        node("Split", "q b", "s t", axis=1),
        node("Concat", "s p", "y", axis=1),
    ]
    model = chain(nodes, ["n", 6], ints(a=[2, 4], b=[1, 3]), outputs=["out", "t", "p"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert [output.name for output in after.model.graph.output] == ["out", "t", "p"]
    assert_same_answers(model, after.model)


def test_fires_in_bodies() -> None:
    inner = nested()
    inner.graph.input[0].name = "x"
    del inner.graph.node[0], inner.graph.node[-1]
    inner.graph.output[0].name = "y"
    model = in_branches(inner)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in flags(model):
        assert_same_answers(model, after.model, feeds)


def _across() -> onnx.ModelProto:
    nodes = [
        node("Split", "x a", "p q", axis=1),
        node("Split", "q b", "s t", axis=0),
        node("Concat", "t s", "u", axis=0),
        node("Concat", "u p", "y", axis=1),
    ]
    return chain(nodes, [3, 6], ints(a=[2, 4], b=[1, 2]))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(nested(use="q"), id="the part has another user"),
        pytest.param(_across(), id="another axis"),
    ],
)
def test_keeps(model: onnx.ModelProto) -> None:
    assert_stays(RULE, model, "")


def test_keeps_a_part_that_is_a_graph_output() -> None:
    nodes = [node("Split", "x a", "p q", axis=1), node("Split", "q b", "s y", axis=1)]
    model = chain(nodes, ["n", 6], ints(a=[2, 4], b=[1, 3]), outputs=["out", "q"])
    assert_stays(RULE, model, "")


def test_keeps_parts_of_unknown_size() -> None:
    nodes = [
        node("Split", "x", "p q", axis=1, num_outputs=2),
        node("Split", "q", "s t", axis=1, num_outputs=2),
        node("Concat", "t s p", "y", axis=1),
    ]
    assert_stays(RULE, chain(nodes, ["n", "m"], opset=18), "")
