"""Rebuild the mask that is added to attention scores from positions alone, and no larger than it need be.

scores: [b, h, n, n] ─ Add ─          scores ─ Add ─
          mask ────────┘         ⇒      mask ──┘

mask = Where(And(Equal(zeros, zeros), LessOrEqual(GatherND(positions, …), GatherND(positions, …))), 0, c)
     ⇒ Where(LessOrEqual(Unsqueeze(Range(0, n, 1), …), Unsqueeze(Range(0, n, 1), …)), 0, c)

The exporters of Hugging Face models index positions and compare packed sequences, of which there is one: what
is always true goes, what is a position is read from the Range. Adding to the scores broadcasts the rest.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import Contents, is_one
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule

_AXES_ARE_AN_INPUT = 13
_COMBINED = frozenset({"And", "Or", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_MAX_SEARCHED = 64


class _Plan:
    """What a value becomes: itself, a position along one axis, or its node on other inputs."""

    def __init__(self) -> None:
        self.contents = Contents()
        self.kept: dict[ir.Value, ir.Value] = {}
        self.positions: dict[ir.Value, tuple[ir.Value, list[int]]] = {}
        self.combined: dict[ir.Value, ir.Node] = {}

    def make(self, value: ir.Value) -> bool:
        """Work out what a value becomes; return whether that is anything else."""
        node = value.producer()
        if node is None or node.domain:
            return False
        if self._is_position(value):
            return True
        if node.op_type not in _COMBINED or len(node.inputs) != 2:
            return False
        a, b = node.inputs
        if a is None or b is None:
            return False
        if node.op_type == "And":
            for true, other in ((a, b), (b, a)):
                content = self.contents.of(true)
                if content is not None and content.is_uniform and content.start == 1:
                    self.kept[value] = other
                    self.make(other)
                    return True
        changed = [self.make(each) for each in (a, b)]
        if any(changed):
            self.combined[value] = node
        return any(changed)

    def _is_position(self, value: ir.Value) -> bool:
        """Note it if a value holds the position along one axis, and is more than that needs."""
        content, dims = self.contents.of(value), dims_of(value)
        if content is None or dims is None or content.start != 0 or content.is_uniform:
            return False
        axes = [axis for axis, slope in enumerate(content.slopes) if slope != 0]
        if len(axes) != 1 or content.slopes[axes[0]] != 1 or sum(not is_one(dim) for dim in dims) == 1:
            return False
        counted = self._counted(value, dims[axes[0]])
        if counted is None:
            return False
        self.positions[value] = counted, [axis for axis in range(len(dims)) if axis != axes[0]]
        return True

    def _counted(self, value: ir.Value, size: object) -> ir.Value | None:
        """Return a value above that counts from 0 to `size`."""
        pending, seen = deque([value]), {value}
        while pending and len(seen) < _MAX_SEARCHED:
            current = pending.popleft()
            content = self.contents.of(current)
            if content is not None and dims_of(current) == (size,) and content == (0, (1,)):
                return current
            node = current.producer()
            above = (
                []
                if node is None
                else [each for each in node.inputs if each is not None and each not in seen]
            )
            seen.update(above)
            pending.extend(above)
        return None

    def build(self, value: ir.Value, new: Builder, opset: int) -> ir.Value:
        """Build what a value becomes."""
        if value in self.kept:
            return self.build(self.kept[value], new, opset)
        if value in self.positions:
            counted, axes = self.positions[value]
            if opset < _AXES_ARE_AN_INPUT:
                return new.op("Unsqueeze", counted, attributes={"axes": axes})
            return new.op("Unsqueeze", counted, new.const(np.array(axes, dtype=np.int64)))
        node = self.combined.get(value)
        if node is None:
            return value
        inputs = [self.build(each, new, opset) for each in node.inputs if each is not None]
        return new.op(node.op_type, *inputs, attributes=node.attributes, like=node)


def guard(m: Match) -> str | None:
    """Keep out unless the scores have the shape of the sum, and the mask gets simpler."""
    dims = dims_of(m["scores"])
    if dims is None or dims != dims_of(m.root.outputs[0]):
        return "the mask gives the sum its shape"
    return None if _Plan().make(m["mask"]) else "the mask is as simple as it gets"


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the simpler mask."""
    plan = _Plan()
    plan.make(m["mask"])
    where = new.op("Where", plan.build(m["mask"], new, m.opset), m["yes"], m["no"], like=m.node("where"))
    return new.op("Add", m["scores"], where)


RULE = Rule(
    "fold_position_mask",
    op("Add", var("scores"), op("Where", var("mask"), const("yes"), const("no"), name="where", shared=True)),
    replace,
    guard,
)
