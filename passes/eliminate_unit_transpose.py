"""Replace a Transpose that only moves axes of size 1 by a Reshape, which copies nothing.

x: [batch, 1, 1, 32] ─ Transpose([0, 3, 1, 2])   ⇒   x ─ Reshape([0, 32, 1, 1])
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._flip import is_identity, moves_only_units


def guard(m: Match) -> str | None:
    """Keep out if an axis moves that may hold more than one element, or the target has two unknowns."""
    perm, dims = m.root.attributes.get_ints("perm"), known_dims(m["x"])
    if perm is None or dims is None or is_identity(tuple(perm)):
        return "the rank is unknown, or no axis moves"
    if not moves_only_units(dims, tuple(perm)):
        return "it moves more than axes of size 1"
    if m.opset < 5:
        return "before opset 5 the target of a Reshape is an attribute"
    return None if _target(m) is not None else "the target would have several unknown dims"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reshape to the dims in their new order."""
    target = _target(m)
    assert target is not None
    return new.op("Reshape", m["x"], new.const(target))


def _target(m: Match) -> npt.NDArray[np.int64] | None:
    """Return the dims in their new order: unknown ones are copied if they stay, or one is left open."""
    perm = m.root.attributes.get_ints("perm") or ()
    dims = [dim or None for dim in known_dims(m["x"]) or ()]  # in a target, 0 does not stand for no elements
    unknown = [at for at, axis in enumerate(perm) if dims[axis] is None]
    stay = all(perm[at] == at for at in unknown)
    if not stay and len(unknown) > 1:
        return None
    filler = 0 if stay else -1
    return np.array([filler if (dim := dims[axis]) is None else dim for axis in perm], dtype=np.int64)


RULE = Rule("eliminate_unit_transpose", op("Transpose", var("x")), replace, guard)
