"""Shared by the moves of Transposes: how a perm goes through a Reshape that splits or merges axes.

x: [2, 3, 20], perm [1, 0, 2]  ─ Reshape ─  y: [2, 3, 4, 5], perm [1, 0, 2, 3]

Axes of size 1 hold no data and may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuseonnx.analysis import symbolic
from fuseonnx.analysis.expr import Number, name_of
from fuseonnx.passes._flip import Perm

Dims = Sequence[int | str | None]
"""Sizes; the name of a symbolic dim, which stands for one size; None where unknown."""


def dims_of(value: ir.Value | None) -> Dims | None:
    """Return the dims of a value, or None if its rank is unknown.

    What its shape does not say may be known in symbols, from what it is computed from: `batch`, or `4*batch`.
    """
    if value is None or value.shape is None:
        return None
    noted = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    dims = [None if isinstance(dim, int) and dim < 0 else dim for dim in noted]  # -1: some exporters' unknown
    derived = symbolic.dims_of(value) if None in dims else None
    if derived is None or len(derived) != len(dims):
        return dims
    return [_named(other) if dim is None else dim for dim, other in zip(dims, derived, strict=True)]


def _named(dim: Number) -> int | str:
    return dim if isinstance(dim, int) else name_of(dim) or str(dim)


def perm_through(before: Dims, after: Dims, perm: Perm) -> Perm | None:
    """Return the perm of a reshaped value, from the perm of the value that is reshaped.

    Args:
        before: its dims, None where unknown.
        after: the dims of the reshaped value.
        perm: its perm.

    Returns:
        None if the Transpose would tear apart axes that the Reshape takes as one, or that is not sure.
    """
    groups = _groups(before, after)
    if groups is None:
        return None
    places = {axis: place for place, axis in enumerate(sorted(range(len(perm)), key=perm.__getitem__))}
    for axes, _ in groups:
        others = [places[axis] for other, _ in groups for axis in other if other is not axes]
        own = [places[axis] for axis in axes]
        if own != sorted(own) or any(own[0] < place < own[-1] for place in others):
            return None
    ordered = sorted(groups, key=lambda group: places[group[0][0]])
    moving = [axis for _, axes in ordered for axis in axes]
    slots = sorted(moving)
    through = list(range(len(after)))
    for slot, axis in zip(slots, moving, strict=True):
        through[axis] = slot
    return tuple(through)


def new_target(dims: Dims) -> npt.NDArray[np.int64] | None:
    """Return the target of a Reshape to these dims; None if more than one is no number, or one is 0."""
    target = [dim if isinstance(dim, int) else -1 for dim in dims]
    return None if 0 in target or target.count(-1) > 1 else np.array(target, dtype=np.int64)


_Group = tuple[list[int], list[int]]


def _groups(before: Dims, after: Dims) -> list[_Group] | None:
    """Match the axes from both ends: those of `before` with those of `after` that hold the same elements.

    What is left between the ends, where dims are unknown, is one group.
    """
    if 0 in before or 0 in after:
        return None
    left = [axis for axis, dim in enumerate(before) if dim != 1]
    right = [axis for axis, dim in enumerate(after) if dim != 1]
    front = list(_take(before, after, left, right))
    left.reverse()
    right.reverse()
    back = list(_take(before, after, left, right))
    if bool(left) != bool(right):
        return None
    return front + [(axes[::-1], others[::-1]) for axes, others in [*back, (left, right)] if axes]


def _take(before: Dims, after: Dims, left: list[int], right: list[int]) -> Iterator[_Group]:
    """Take groups of equal size off the heads of two lists of axes, as long as that is sure."""
    while left and right:
        head, other = before[left[0]], after[right[0]]
        same = head is not None and head == other
        taken = (
            (1, 1) if same else _equal_heads([before[axis] for axis in left], [after[axis] for axis in right])
        )
        if taken is None:
            return
        yield left[: taken[0]], right[: taken[1]]
        del left[: taken[0]], right[: taken[1]]


def _equal_heads(before: Dims, after: Dims) -> tuple[int, int] | None:
    """Return how many dims at the heads of two lists have the same product, at least one each."""
    sizes, counts, lists = [1, 1], [0, 0], (before, after)
    while 0 in counts or sizes[0] != sizes[1]:
        side = 0 if sizes[0] <= sizes[1] else 1
        dim = lists[side][counts[side]] if counts[side] < len(lists[side]) else None
        if not isinstance(dim, int):
            return None
        sizes[side] *= dim
        counts[side] += 1
    return counts[0], counts[1]
