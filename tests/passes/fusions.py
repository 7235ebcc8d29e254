"""Shared by the tests of fusions: nodes from x to y that become one operator, and the ways to break them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuseonnx.core.pattern import COMMUTATIVE
from tests.helpers import Feeds, Rewritten, assert_same_answers, make_model, random_feeds, rewrite
from tests.passes.folds import in_branches

Dims = tuple[int | str, ...]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-30, -1e-30, 100], np.float32)


@dataclass(frozen=True)
class Spelling:
    """Nodes from x to y, and their constants."""

    nodes: tuple[onnx.NodeProto, ...]
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    def commuted(self) -> Spelling:
        """Return the nodes with the operands of each commutative operator exchanged."""
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        for node in nodes:
            if node.op_type in COMMUTATIVE:
                node.input[:] = reversed(node.input)
        return replace(self, nodes=tuple(nodes))

    def model(
        self,
        dims: Dims,
        *,
        opset: int = 17,
        dtype: int = TensorProto.FLOAT,
        outputs: Sequence[str] = ("y",),
        overridable: Sequence[str] = (),
    ) -> onnx.ModelProto:
        """Build a model with input x, its float constants in `dtype`."""
        numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
        weights = {
            name: array.astype(numpy_dtype) if array.dtype.kind == "f" else array
            for name, array in self.weights.items()
        }
        inputs = {"x": dims, **({"other": dims} if any("other" in node.input for node in self.nodes) else {})}
        return make_model(
            self.nodes, inputs, outputs, weights, opset=opset, dtype=dtype, overridable=overridable
        )


def assert_fuses(
    model: onnx.ModelProto,
    *rules: str,
    leaves: Mapping[str, int],
    feeds: Feeds | None = None,
    rtol: float = 1e-6,
) -> Rewritten:
    """Assert that exactly the rules fire, that these operators are left, and that they come to rest."""
    after = rewrite(model, *rules)
    assert set(after.fired) == set(rules)
    assert after.ops == leaves
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, feeds, rtol=rtol)
    assert rewrite(after.model, *rules).fired == {}
    return after


def assert_stays(model: onnx.ModelProto, rule: str, reason: str, *, among: bool = False) -> None:
    """Assert that the rule does not fire and says why ("" if its pattern does not even match).

    Args:
        model: the model.
        rule: the rule.
        reason: why.
        among: whether it has other reasons at other roots.
    """
    after = rewrite(model, rule)
    assert after.fired == {}
    reasons = set(after.declined.get(rule, {}))
    assert reason in reasons if among else reasons == ({reason} if reason else set())


def assert_needs_every_inner_value_to_itself(spelling: Spelling, rule: str, dims: Dims, opset: int) -> None:
    """Assert that the rule leaves alone what makes a graph output, whichever inner value it is."""
    for node in spelling.nodes[:-1]:
        model = spelling.model(dims, opset=opset, outputs=["y", node.output[0]])
        after = rewrite(model, rule)
        assert f"the result of {node.op_type} is a graph output" in after.declined[rule], node
        assert_same_answers(model, after.model)


def assert_fuses_in_both_branches(spelling: Spelling, rule: str, dims: Dims, opset: int) -> None:
    """Assert that the rule fires in the branches of an If."""
    model = in_branches(spelling.model(dims, opset=opset))
    after = rewrite(model, rule)
    assert after.fired == {rule: 2}
    feeds = {name: value for name, value in random_feeds(model).items() if name != "flag"}
    for flag in (True, False):
        assert_same_answers(model, after.model, {**feeds, "flag": np.array(flag)})
