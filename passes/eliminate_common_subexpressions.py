"""Compute once what is computed twice: nodes with the same operator, attributes and inputs.

    op(x, y) ─ a        op(x, y) ─┬ a
    op(x, y) ─ b   ⇒              └ b

A node in the body of an If, Loop or Scan also reads the equal node that comes before it in a graph around it.
Attributes compare bit by bit, so that -0.0 differs from +0.0. Random operators, operators with bodies and
those of other domains stay apart.

Equal Convs are merged even if a different BatchNormalization follows each, which then cannot be folded: one
Conv and two BatchNormalizations take 0.5 to 1.0 of the time of two Convs (onnxruntime's CPU provider, 1x1 and
3x3, 16 to 256 channels, one thread).
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._sameness import merge_equal_nodes, node_key

_NAME = "eliminate_common_subexpressions"


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal nodes into the first of them."""
    merge_equal_nodes(model, journal, _NAME, node_key)


RULE = GraphPass(_NAME, run)
