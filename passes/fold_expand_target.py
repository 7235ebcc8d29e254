"""Replace the computed target of an Expand by a constant, where the dims of x say the rest.

x: float[batch, 1, n] ─ Expand(Concat(Shape(x)[0:1], [8, 1]))   ⇒   x ─ Expand([1, 8, 1])

A 1 keeps the dim of x. A dim of x other than 1 can only be kept.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import Number
from fuseonnx.analysis.symbolic import dims_of, elements_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out if a dim of the target is neither a number nor that of x."""
    if is_const(m["target"]):
        return ""
    return "a dim of the target is unknown" if _target(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Expand to the constant."""
    return new.op("Expand", m["x"], new.const(np.array(_target(m), dtype=np.int64)))


def _target(m: Match) -> list[int] | None:
    wanted, dims = elements_of(m["target"]), dims_of(m["x"])
    if wanted is None or dims is None or len(dims) > len(wanted):
        return None
    pairs = zip_longest(reversed(wanted), reversed(dims), fillvalue=1)
    target = [_said(*pair) for pair in pairs][::-1]
    known = [each for each in target if each is not None]
    return known if len(known) == len(target) else None


def _said(wanted: Number, dim: Number) -> int | None:
    if wanted == dim or (isinstance(dim, int) and dim > 1):
        return 1
    return wanted if isinstance(wanted, int) else None


RULE = Rule("fold_expand_target", op("Expand", var("x"), var("target")), replace, guard)
