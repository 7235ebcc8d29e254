"""Find from its use which values an integer input may take: an index, a mask, a shape, a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper

from fuseonnx.runtime.uses import Use, Uses

Array = np.ndarray[Any, np.dtype[Any]]

_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_FIXED: dict[tuple[str, int], tuple[int, int]] = {
    ("Div", 1): (1, 7),
    ("Mod", 1): (1, 7),
    ("BitShift", 1): (0, 7),
    ("ConstantOfShape", 0): (1, 4),
    ("CumSum", 1): (0, 0),
    ("Expand", 1): (1, 1),
    ("Loop", 0): (1, 3),
    ("NonMaxSuppression", 2): (1, 5),
    ("Pad", 1): (0, 1),
    ("Range", 0): (0, 1),
    ("Range", 1): (4, 9),
    ("Range", 2): (1, 2),
    ("SequenceAt", 1): (0, 0),
    ("SequenceErase", 1): (0, 0),
    ("SequenceInsert", 2): (0, 0),
    ("Slice", 1): (0, 0),
    ("Slice", 2): (1, 4),
    ("Slice", 4): (1, 1),
    ("Tile", 1): (1, 2),
    ("Trilu", 1): (-1, 1),
}
"""Operator and input slot to a range that it accepts whatever its other inputs are (for arrays not empty)."""

_INDEXED_DATA = {("EmbedLayerNormalization", 0): 2, ("EmbedLayerNormalization", 1): 4}
"""com.microsoft operators that look up rows: operator and slot of the indices to slot of the table."""


@dataclass(frozen=True)
class IntRange:
    """Values that an integer input may take: `low` to `high`, both included."""

    low: int
    high: int
    cases: tuple[int, ...] = ()
    """Values that the graph compares the input with, and their neighbours: each may choose another path."""
    layout: Literal["any", "target shape", "axes"] = "any"
    indexes: bool = False
    """Whether a use limits the range: values outside it make the model fail."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return random valid values of the given shape and dtype."""
        if self.layout == "axes":
            return np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape)
        if self.layout == "target shape":
            target = np.zeros(shape, dtype)
            target[..., -1:] = -1
            return target
        drawn = rng.integers(self.low, self.high, shape, np.int64, endpoint=True)
        cases = [case for case in self.cases if not self.indexes or self.low <= case <= self.high]
        if cases:
            drawn = np.where(rng.random(shape) < 0.25, rng.choice(cases, shape), drawn)
        return drawn.astype(dtype)

    def highest(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the highest value everywhere: a mask that hides nothing, the last row of a table."""
        if self.layout != "any":
            return self.draw(np.random.default_rng(0), shape, dtype)
        return np.full(shape, self.high, dtype)


def integer_range(uses: Uses, name: str, dtype: np.dtype[Any]) -> IntRange:
    """Return the values that the integer graph input `name` may take.

    Indices and other limited uses decide; without one a compared or converted input is a mask (0 or 1),
    8-bit inputs are data (their full range) and anything else is a small non-negative number.
    """
    reached = list(uses.reached(name))
    layout = _layout(reached)
    limits = [limit for use in reached if (limit := _limit(uses, use)) is not None]
    cases = tuple(dict.fromkeys(case for use in reached for case in _cases(uses, use)))
    if limits:
        low = max(limit[0] for limit in limits)
        high = min(limit[1] for limit in limits)
        return IntRange(low, max(low, high), cases, layout, indexes=True)
    if dtype.itemsize == 1:
        info = np.iinfo(dtype)
        return IntRange(int(info.min), int(info.max), cases, layout)
    is_mask = any(use.node.op_type in {"Cast", "Where", *_COMPARISONS} for use in reached)
    return IntRange(0, 1 if is_mask else 7, cases, layout)


def _layout(reached: list[Use]) -> Literal["any", "target shape", "axes"]:
    slots = {(use.node.op_type, use.slot) for use in reached}
    if ("Reshape", 1) in slots:
        return "target shape"
    if slots & {("Slice", 3), ("Squeeze", 1), ("Unsqueeze", 1)} or any(
        op.startswith("Reduce") and slot == 1 for op, slot in slots
    ):
        return "axes"
    return "any"


def _limit(uses: Uses, use: Use) -> tuple[int, int] | None:
    """Return the range in which one use needs the input to be, or None where it takes anything."""
    op, node = use.node.op_type, use.node
    if (op, use.slot) in _FIXED:
        low, high = _FIXED[op, use.slot]
    elif (op, use.slot) in _INDEXED_DATA:
        low, high = _index_limit(uses, node.input[_INDEXED_DATA[op, use.slot]], 0)
    elif (op, use.slot) in {("GatherND", 1), ("ScatterND", 1)}:
        low, high = 0, min((dim or 1) - 1 for dim in uses.dims(node.input[0]) or [None])
    elif use.slot == 1 and op in _AXIS:
        low, high = _index_limit(uses, node.input[0], _AXIS[op](node))
    elif (op, use.slot) == ("TopK", 1):
        low, high = 1, max(1, _index_limit(uses, node.input[0], _axis(node, -1))[1] + 1)
    elif (op, use.slot) == ("OneHot", 0):
        depth = uses.constant(node.input[1])
        low, high = 0, 0 if depth is None else int(depth.item()) - 1
    else:
        return None
    return low - use.offset, high - use.offset


def _axis(node: onnx.NodeProto, default: int) -> int:
    for attribute in node.attribute:
        if attribute.name == "axis":
            return int(helper.get_attribute_value(attribute))
    return default


_AXIS: dict[str, Callable[[onnx.NodeProto], int]] = {
    "Gather": lambda node: _axis(node, 0),
    "GatherElements": lambda node: _axis(node, 0),
    "ScatterElements": lambda node: _axis(node, 0),
    "NegativeLogLikelihoodLoss": lambda _: 1,
    "SoftmaxCrossEntropyLoss": lambda _: 1,
}
"""Operators whose input 1 indexes input 0, and the axis along which it does."""


def _index_limit(uses: Uses, data: str, axis: int) -> tuple[int, int]:
    """Return the indices into `data` along `axis`; 0 is the one that is always valid."""
    dims = uses.dims(data)
    if dims is None or not -len(dims) <= axis < len(dims):
        return 0, 0
    return 0, (dims[axis] or 1) - 1


def _cases(uses: Uses, use: Use) -> list[int]:
    """Return the constants that one use compares the input with, each with the values around it."""
    if use.node.op_type not in _COMPARISONS:
        return []
    other = uses.constant(use.node.input[1 - use.slot])
    if other is None or other.size > 16 or other.dtype.kind not in "iu":
        return []
    around = (0, 1) if use.node.op_type == "Equal" else (0, 1, -1)
    return [int(value) + step - use.offset for value in other.ravel() for step in around]
