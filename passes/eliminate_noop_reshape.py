"""Drop Reshape, Flatten, Squeeze, Unsqueeze, Expand and Tile that give the shape they are given.

x: float[batch, 3, 4] ─ Reshape([-1, 3, 4]) ─ op   ⇒   x ─ op
x: float[batch, 3, 4] ─ Expand([3, 4]) ─ op        ⇒   x ─ op

Only equal numbers count as the same dim; one dim may stay open, because the number of elements decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape, known_dims


def guard(m: Match) -> str | None:
    """Keep out unless the shape surely stays."""
    return None if _SAME[m.root.op_type](m) else "the shape may change"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


def _expanded(m: Match) -> bool:
    return keeps_shape(m["x"], m.array("target").tolist())


def _unsqueezed(m: Match) -> bool:
    return m.array("target").size == 0


def _tiled(m: Match) -> bool:
    return bool((m.array("target") == 1).all())


def _squeezed(m: Match) -> bool:
    dims = static_shape(m["x"])
    return dims is not None and 1 not in dims


def _flattened(m: Match) -> bool:
    """Whether Flatten keeps the dims: [a, b] at axis 1, [1, b] at axis 0, [a, 1] at axis 2."""
    dims = known_dims(m["x"])
    if dims is None or len(dims) != 2:
        return False
    axis = m.root.attributes.get_int("axis", 1)
    return (dims[0] == 1, True, dims[1] == 1)[axis if axis >= 0 else axis + 2]


def _reshaped(m: Match) -> bool:
    """Whether Reshape keeps the dims: all but one are the same, and this one is left to the element count."""
    dims, target = known_dims(m["x"]), m.array("target").tolist()
    if dims is None or len(dims) != len(target):
        return False
    copies = not m.root.attributes.get_int("allowzero", 0)
    same = [wanted == dim or (wanted == 0 and copies) for dim, wanted in zip(dims, target, strict=True)]
    if same.count(False) != 1:
        return all(same)
    axis = same.index(False)
    others = dims[:axis] + dims[axis + 1 :]
    if target[axis] == -1:
        return 0 not in others
    return dims[axis] is None and None not in others and 0 not in others


_SAME: Mapping[str, Callable[[Match], bool]] = {
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Expand": _expanded,
    "Tile": _tiled,
}

RULE = Rule(
    "eliminate_noop_reshape",
    any_of(
        op(("Reshape", "Expand", "Unsqueeze", "Tile"), var("x"), const("target")),
        op(("Flatten", "Squeeze"), var("x")),
    ),
    replace,
    guard,
)
