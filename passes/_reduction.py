"""Shared by the rewrites of reductions: the axes, in any spelling."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.constants import array_of, is_const


def taken_axes(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes that a Reduce operator takes, sorted, none negative; None if they are unknown.

    They are an attribute or, since opset 18 (ReduceSum: 13), an input.
    """
    axes = rank(node.inputs[0])
    if axes is None:
        return None
    if len(node.inputs) > 1:
        listed = node.inputs[1]
        given = array_of(listed).tolist() if listed is not None and is_const(listed) else []
    else:
        given = node.attributes.get_ints("axes", ())
    return tuple(sorted({axis % axes for axis in given})) or None


def kept_axes(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes that a Reduce operator takes and leaves as 1; None if they go, or are unknown."""
    return taken_axes(node) if node.attributes.get_int("keepdims", 1) else None
