"""Turn a Transpose between two Reshapes into one Transpose, or one Reshape, where they take no axes apart.

x: [b, 4, 9, 32] ─ Reshape([-1, 9, 32]) ─ Transpose([0, 2, 1]) ─ Reshape([b, 4, 32, 9]) ─ y
    ⇒   x ─ Transpose([0, 1, 3, 2]) ─ y

The second Reshape commutes with the Transpose if it only splits and merges axes that the Transpose keeps side
by side; the two Reshapes then meet. If they do not undo each other, one of them stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._flip import Perm, inverse, is_identity
from fuseonnx.passes._reshaped import Dims, dims_of, new_target, perm_through


def guard(m: Match) -> str | None:
    """Keep out if axes are taken apart, or the dims between are not sure."""
    if m.opset < 5:
        return "before opset 5 the target is an attribute"
    found = _commuted(m)
    if found is None:
        return "it takes apart axes that are one in the result, or dims are unknown"
    dims, _ = found
    return None if _same(m["x"], dims) or new_target(dims) is not None else "several dims are unknown"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reshape first, if there is anything to reshape; then transpose, if any axis moves."""
    found = _commuted(m)
    assert found is not None
    (dims, perm), result = found, m["x"]
    if not _same(result, dims):
        target = new_target(dims)
        assert target is not None
        result = new.op("Reshape", result, new.const(target), like=m.root)
    if is_identity(perm):
        return result
    return new.op("Transpose", result, attributes={"perm": perm}, like=m.node("transpose"))


def _commuted(m: Match) -> tuple[Dims, Perm] | None:
    """Return the dims before, and the perm of, the Transpose if it comes last; None if it cannot."""
    between, after = dims_of(m.node("transpose").outputs[0]), dims_of(m.root.outputs[0])
    if between is None or after is None:
        return None
    perm = m.node("transpose").attributes.get_ints("perm") or range(len(between))[::-1]
    through = perm_through(between, after, tuple(perm))
    return None if through is None else ([after[axis] for axis in inverse(through)], through)


def _same(x: ir.Value, dims: Dims) -> bool:
    """Whether `x` has these dims: all are equal, or all but one, which the number of elements decides."""
    known = dims_of(x)
    if known is None or len(known) != len(dims):
        return False
    unsure = [dim for dim, other in zip(known, dims, strict=True) if dim is None or dim != other]
    others = [dim for dim, other in zip(known, dims, strict=True) if dim is not None and dim == other]
    decided = all(isinstance(dim, int) and dim > 0 for dim in others)
    return not unsure or (len(unsure) == 1 and not isinstance(unsure[0], int) and decided)


RULE = Rule(
    "merge_reshapes_around_transpose",
    op(
        "Reshape",
        op("Transpose", op("Reshape", var("x"), var("first"), shared=True), name="transpose"),
        var("second"),
    ),
    replace,
    guard,
)
