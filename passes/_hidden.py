"""Shared by the rewrites of masked scores: whether a mask hides positions, whatever the model is fed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from fuseonnx.core.constants import array_of, is_const

LOWEST_NORMAL = -80.0
"""Below it, e to the power of a score, over a sum of them, is below float32's normal numbers, or 0."""

_COMPARISONS = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"})
_SHAPES = frozenset({"Shape", "Size"})
_MOVES = frozenset(
    {"Cast", "Expand", "Gather", "Identity", "Not", "Reshape"}
    | {"Slice", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze"}
)
_DEPTH = 24


def hides(mask: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether some numbers of a mask, or of masked scores, are far below 0, whatever is fed.

    It tells a mask of positions (causal, or of windows) from one that is fed, where it may be that nothing is
    hidden. It says what is likely, not what is certain: use it to choose a form, not to prove one.
    """
    if mask is None or depth == 0:
        return False
    if is_const(mask):
        return _both(bool(number < LOWEST_NORMAL) for number in _ends(mask))
    node = mask.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "Where":
        visible, *choices = node.inputs
        return any(map(_is_low, choices)) and differs(visible, depth - 1)
    operands = node.inputs if node.op_type == "Add" else _moved(node)
    return any(hides(operand, depth - 1) for operand in operands)


def differs(visible: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether a condition is likely to be true here and false there, whatever is fed."""
    if visible is None or depth == 0:
        return False
    if is_const(visible):
        return _both(bool(number) for number in _ends(visible))
    node = visible.producer()
    if node is None or node.domain:
        return False
    if node.op_type in _COMPARISONS:
        return not any(_is_fed(operand, depth - 1) for operand in node.inputs)
    operands = node.inputs if node.op_type in {"And", "Or"} else _moved(node)
    return any(differs(operand, depth - 1) for operand in operands)


def _moved(node: ir.Node) -> Sequence[ir.Value | None]:
    return node.inputs[:1] if node.op_type in _MOVES else ()


def _is_fed(value: ir.Value | None, depth: int) -> bool:
    """Whether more of the inputs than their shapes may decide a value."""
    if value is None or is_const(value):
        return False
    node = value.producer()
    if node is None or depth == 0:
        return True
    return node.op_type not in _SHAPES and any(_is_fed(operand, depth - 1) for operand in node.inputs)


def _is_low(choice: ir.Value | None) -> bool:
    return choice is not None and is_const(choice) and _ends(choice)[0] < LOWEST_NORMAL


def _ends(constant: ir.Value) -> tuple[float, float]:
    """Return the least and the largest number; two zeros if there is none, or no number."""
    array = array_of(constant)
    return (float(array.min()), float(array.max())) if array.size and array.dtype.kind in "fb" else (0.0, 0.0)


def _both(kinds: Iterable[bool]) -> bool:
    return len(set(kinds)) > 1
