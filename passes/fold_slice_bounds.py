"""Replace the computed bounds of a Slice by constants, where they lie at a known distance from the end.

x: float[batch, n] ─ Slice([1], ends=Shape(x)[1:2], axes=[1])   ⇒   x ─ Slice([1], [INT64_MAX], [1])
x: float[batch, n + 1] ─ Slice([0], ends=[n], axes=[1])         ⇒   x ─ Slice([0], [-1], [1])

A bound that may be negative is left alone: it would count from the end itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import Number, at_least, subtract
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule

_END = 2**63 - 1


def guard(m: Match) -> str | None:
    """Keep out if a bound is at no known distance from either end."""
    if is_const(m["starts"]) and is_const(m["ends"]):
        return ""
    dims = _dims(m)
    if dims is None:
        return "the axes are unknown or a step is not 1"
    known = _bounds(elements_of(m["starts"]), dims) and _bounds(elements_of(m["ends"]), dims)
    return None if known else "a bound is unknown"


def replace(m: Match, new: Builder) -> ir.Value:
    """Slice with constants."""
    dims = _dims(m)
    assert dims is not None
    bounds = []
    for value in (m["starts"], m["ends"]):
        known, dtype = _bounds(elements_of(value), dims), value.dtype
        assert known is not None and dtype is not None
        limits = np.iinfo(dtype.numpy())
        bounds.append(new.const(np.clip(known, limits.min, limits.max).astype(dtype.numpy())))
    return new.op("Slice", m["x"], *bounds, m.get("axes"), m.get("steps"))


def _dims(m: Match) -> list[Number] | None:
    """Return the dims that are cut, in the order of the bounds."""
    dims, starts = dims_of(m["x"]), elements_of(m["starts"])
    if dims is None or starts is None:
        return None
    if m.get("steps") is not None and set(integers_of(m["steps"]) or [0]) != {1}:
        return None
    axes = integers_of(m["axes"]) if m.get("axes") is not None else list(range(len(starts)))
    return None if axes is None else [dims[axis] for axis in axes]


def _bounds(bounds: Sequence[Number] | None, dims: Sequence[Number]) -> list[int] | None:
    """Return the same bounds as numbers, None if one is at no known distance from either end."""
    if bounds is None:
        return None
    known = [_bound(bound, dim) for bound, dim in zip(bounds, dims, strict=True)]
    found = [each for each in known if each is not None]
    return found if len(found) == len(known) else None


def _bound(bound: Number, dim: Number) -> int | None:
    if isinstance(bound, int):
        return bound
    if not at_least(bound, 0):
        return None
    past = subtract(bound, dim)
    if at_least(past, 0):
        return _END
    return past if isinstance(past, int) else None


RULE = Rule(
    "fold_slice_bounds",
    op("Slice", var("x"), var("starts"), var("ends"), maybe(var("axes")), maybe(var("steps"))),
    replace,
    guard,
)
