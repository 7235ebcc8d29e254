"""Compute on one matrix of rows instead of a stack of matrices, also where that leaves as many nodes.

    x: [b, h, w, c] ─ MatMul(w) ─ Add(v) ─ Gelu ─ MatMul(w') ─ Add(v') ─ y
        ⇒   x ─ Reshape([-1, c]) ─ Gemm(w, v) ─ Gelu ─ Gemm(w', v') ─ Reshape([-1, h, w, c']) ─ y

It is merge_leading_axes with another limit. onnxruntime fuses an Add before a Gelu into a kernel that is
slower than its Gelu; as a part of Gemm it costs nothing. docs/forms.md has the times.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._rows import Exit, Region, nodes_saved
from fuseonnx.passes.merge_leading_axes import merge

_NAME = "compute_on_matrices"
_MORE_NODES = 2
"""By so many may the Reshapes at the borders of a region outnumber the Adds that Gemm takes."""


def run(model: ir.Model, journal: Journal) -> None:
    """Change every region with a MatMul."""
    merge(model, journal, _NAME, _pays)


def _pays(region: Region, exits: list[Exit]) -> bool:
    return nodes_saved(region, exits) >= -_MORE_NODES and any(
        node.op_type == "MatMul" for node in region.nodes
    )


RULE = GraphPass(_NAME, run)
