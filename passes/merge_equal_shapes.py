"""Compute once what two pieces of arithmetic on shapes both compute, however they are written.

Shape(x: [batch, n])                 ─ Gather(0) ─ a        Shape(x) ─ Gather(0) ─┬ a
Shape(Relu(MatMul(x, w)): [batch, m]) ─ Gather(0) ─ b   ⇒                         └ b

Both are worked out in symbols; equal expressions over the same dims are the same number.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from fuseonnx.analysis.elements import ON_SHAPES
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._sameness import merge_equal_nodes

_NAME = "merge_equal_shapes"


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal lists of dims into the first of them."""
    merge_equal_nodes(model, journal, _NAME, _key)


def _key(node: ir.Node) -> Hashable | None:
    """Return what makes the result of a node the same as another's, None if that is not known in symbols."""
    if node.domain or node.op_type not in ON_SHAPES or len(node.outputs) > 1:
        return None
    result = node.outputs[0]
    elements = elements_of(result)
    if elements is None or integers_of(result) is not None:
        return None
    return result.dtype, dims_of(result), elements


RULE = GraphPass(_NAME, run)
