"""Slice once instead of twice.

x ─ Slice([1:], axis 2) ─ Slice([:-1], axis 3) ─ op   ⇒   x ─ Slice([1:, :-1], axes 2 and 3) ─ op
x ─ Slice([2:]) ─ Slice([1:5:2]) ─ op                 ⇒   x ─ Slice([3:7:2]) ─ op

Other Slices may use the first result: each costs what it gives, not what it is given.

Keeps out where anything else uses it, for then it stays, and the halves that rotary embeddings take of it
make one Split.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import TO_THE_END, has_input, int64s, integers
from fuseonnx.passes._dims import known_dims

_BOUNDS_ARE_INPUTS = 10
_FOREVER = 2**63 - 1

Cut = tuple[int, int, int]
"""Start, end and step along an axis."""


def guard(m: Match) -> str | None:
    """Keep out of a first Slice that stays, and of bounds whose joint effect depends on unknown dims."""
    first = m.node("first").outputs[0]
    if first.is_graph_output() or any(user.op_type != "Slice" for user in first.consumers()):
        return "others use the first result"
    return "the bounds do not combine" if _cuts(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Slice once."""
    cuts = _cuts(m)
    assert cuts is not None
    axes = sorted(cuts)
    starts, ends, steps = ([cuts[axis][part] for axis in axes] for part in range(3))
    if m.opset < _BOUNDS_ARE_INPUTS:
        attributes: Attributes = {"starts": starts, "ends": ends, "axes": axes}
        return new.op("Slice", m["x"], attributes=attributes)
    parts = [starts, ends, axes] if set(steps) == {1} else [starts, ends, axes, steps]
    return new.op("Slice", m["x"], *(int64s(new, each) for each in parts))


def _cuts(m: Match) -> dict[int, Cut] | None:
    """Return the joint cut of each axis, None if there is no such thing."""
    axes, dims = rank(m["x"]), known_dims(m["x"])
    first, second = (read_cuts(node, axes) for node in (m.node("first"), m.root))
    if first is None or second is None:
        return None
    joint = dict(first)
    for axis, cut in second.items():
        if axis not in first:
            joint[axis] = cut
            continue
        combined = _combined(first[axis], cut, None if dims is None else dims[axis])
        if combined is None:
            return None
        joint[axis] = combined
    return joint


def read_cuts(node: ir.Node, axes: int | None) -> dict[int, Cut] | None:
    """Return what a Slice takes of each axis, counted from the front; None if that is unknown.

    Nor is it told where a Slice counts down to the largest of numbers: by ONNX it takes nothing then, but
    onnxruntime goes on to the first entry.
    """
    starts, ends = integers(node, "starts", 1), integers(node, "ends", 2)
    if starts is None or ends is None:
        return None
    along = integers(node, "axes", 3)
    if along is None:
        if has_input(node, 3) or "axes" in node.attributes:
            return None
        along = list(range(len(starts)))
    steps = integers(node, "steps", 4) if has_input(node, 4) else [1] * len(starts)
    if steps is None or (axes is None and min(along, default=0) < 0):
        return None
    if any(step < 0 and end >= TO_THE_END for end, step in zip(ends, steps, strict=True)):
        return None
    counted = along if axes is None else [axis % axes for axis in along]
    return dict(zip(counted, zip(starts, ends, steps, strict=True), strict=True))


def as_slice(cut: Cut, size: int) -> slice:
    """Return a cut for Python, which takes nothing if one counts down from before the axis, not the first."""
    start, end, step = cut
    return slice(max(start, -size), end, step)


def _combined(first: Cut, second: Cut, size: int | None) -> Cut | None:
    """Return the cut that does what two do one after the other along an axis of `size` (None: unknown)."""
    if size is not None:
        kept = range(size)[as_slice(first, size)]
        kept = kept[as_slice(second, len(kept))]
        if len(kept) == 0:
            return 0, 0, 1
        end = kept[-1] + (1 if kept.step > 0 else -1)
        return kept[0], end if end >= 0 else -_FOREVER, max(-_FOREVER, min(kept.step, _FOREVER))
    start, end, step = first
    if start < 0 or second[0] < 0 or step < 1 or second[2] < 1:
        return None
    start, joint = min(start + second[0] * step, _FOREVER), min(step * second[2], _FOREVER)
    if second[1] >= TO_THE_END:
        return start, end, joint
    if second[1] >= 0 and end >= 0:
        stop = first[0] + second[1] * step
        return start, min(end, stop), joint
    return (start, second[1], joint) if end >= TO_THE_END and step == 1 else None


_BOUNDS = maybe(const("starts")), maybe(const("ends")), maybe(const("axes")), maybe(const("steps"))
_FIRST_BOUNDS = maybe(const("starts1")), maybe(const("ends1")), maybe(const("axes1")), maybe(const("steps1"))

RULE = Rule(
    "merge_slices",
    op("Slice", op("Slice", var("x"), *_FIRST_BOUNDS, name="first", shared=True), *_BOUNDS),
    replace,
    guard,
)
