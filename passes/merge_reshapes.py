"""Reshape once instead of twice.

x ─ Reshape(a) ─ Reshape(b) ─ op   ⇒   x ─ Reshape(b') ─ op

Either may be Flatten, Squeeze or Unsqueeze instead. A 0 in b copies a dim of the result in between: b' has
its number, or a 0 where x has that dim at the same place. One dim may be left to the element count, -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import counted, int64s, integers, others_use, same_dim
from fuseonnx.passes._dims import known_dims

_KINDS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class Copy(NamedTuple):
    """The dim of x along an axis, which is no number."""

    axis: int


Dim = int | Copy | None
"""None: left to the element count."""


def guard(m: Match) -> str | None:
    """Keep out unless one target says it all, and where nothing would be saved."""
    if not _copies_nothing(m) and _target(m) is None:
        return "too many dims are unknown"
    if others_use(m, "first") and not _restores(m):
        return f"the result of {m.node('first').op_type} has other users"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Reshape once."""
    if _copies_nothing(m):
        return new.op("Reshape", m["x"], m["target"], attributes=m.root.attributes)
    return new.op("Reshape", m["x"], int64s(new, _target(m) or ()))


def _copies_nothing(m: Match) -> bool:
    """Whether the root is a Reshape whose target means the same whatever it is given."""
    if m.root.op_type != "Reshape":
        return False
    return bool(m.root.attributes.get_int("allowzero", 0)) or 0 not in (integers(m.root, "shape", 1) or [0])


def _restores(m: Match) -> bool:
    """Whether the result has the dims of x, of which the element count decides at most one."""
    before, after = known_dims(m["x"]), known_dims(m.root.outputs[0])
    return before is not None and before == after and before.count(None) <= 1 and 0 not in before


def _target(m: Match) -> list[int] | None:
    """Return the target of the joint Reshape, or None if there is none."""
    between = _between(m)
    dims = None if between is None else _after(m.root, between)
    if dims is None:
        return None
    placed = [None if isinstance(dim, Copy) and dim.axis != axis else dim for axis, dim in enumerate(dims)]
    copies = any(isinstance(dim, Copy) for dim in placed)
    own = m.root.op_type == "Reshape" and -1 in dims  # so it was beside a copy before: no new ambiguity
    if 0 in placed or placed.count(None) + placed.count(-1) > 1 or (copies and None in placed and not own):
        return None
    return [0 if isinstance(dim, Copy) else -1 if dim is None else dim for dim in placed]


def _between(m: Match) -> list[Dim] | None:
    """Return the dims of the result in between."""
    first = m.node("first")
    dims = known_dims(first.outputs[0])
    if dims is None:
        return None
    return [Copy(axis) if dim is None and _is_kept(m, axis) else dim for axis, dim in enumerate(dims)]


def _is_kept(m: Match, axis: int) -> bool:
    """Whether the first operator surely leaves this axis of x as and where it is."""
    first = m.node("first")
    if first.op_type == "Reshape":
        target = integers(first, "shape", 1)
        if target is not None and target[axis] == 0 and not first.attributes.get_int("allowzero", 0):
            return True
    elif first.op_type != "Flatten":
        whole = rank(m["x"] if first.op_type == "Squeeze" else first.outputs[0])
        changed = counted(integers(first, "axes", 1) or (), whole)
        return bool(changed) and axis < min(changed or (0,))
    axes = rank(m["x"])
    return axes is not None and axis < axes and same_dim(m["x"], axis, first.outputs[0], axis)


def _after(root: ir.Node, dims: Sequence[Dim]) -> list[Dim] | None:
    """Return the dims that the root makes of `dims`, None if they are unknown."""
    if root.op_type == "Flatten":
        axis = root.attributes.get_int("axis", 1)
        return [_product(dims[:axis]), _product(dims[axis:])]
    parameter = integers(root, "axes", 1)
    if parameter is None:
        return None
    if root.op_type == "Reshape":
        if any(wanted == 0 and axis >= len(dims) for axis, wanted in enumerate(parameter)):
            return None
        return [wanted or dims[axis] for axis, wanted in enumerate(parameter)]
    if root.op_type == "Squeeze":
        gone = counted(parameter, len(dims)) or []
        return [dim for axis, dim in enumerate(dims) if axis not in gone]
    added, old = counted(parameter, len(dims) + len(parameter)) or [], iter(dims)
    return [1 if axis in added else next(old) for axis in range(len(dims) + len(added))]


def _product(dims: Sequence[Dim]) -> Dim:
    numbers = [dim for dim in dims if isinstance(dim, int)]
    if len(numbers) == len(dims):
        return math.prod(numbers)
    return dims[0] if len(dims) == 1 else None


RULE = Rule(
    "merge_reshapes",
    op(
        _KINDS,
        op(_KINDS, var("x"), maybe(var("parameter")), name="first", shared=True),
        maybe(var("target")),
    ),
    replace,
    guard,
)
