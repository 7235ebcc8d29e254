"""Replace the computed target of a Reshape by a constant, where 0 and -1 can say the same.

x ─ Reshape(Concat(Shape(x)[0:1], [200]))   ⇒   x ─ Reshape([0, 200])
x ─ Reshape(Concat(n, [12, 64]))            ⇒   x ─ Reshape([-1, 12, 64])

A dim of x at its own place is copied, which 0 means. One other dim may be unknown and is left to the element
count, -1; not beside a 0, because an empty tensor leaves it open, unless the target held the -1 before.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import Number
from fuseonnx.analysis.symbolic import dims_of, elements_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out if more is unknown than 0 and -1 can say."""
    if is_const(m["target"]):
        return ""
    return "too many dims are unknown" if _target(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Reshape to the constant."""
    target = new.const(np.array(_target(m), dtype=np.int64))
    return new.op("Reshape", m["x"], target)


def _target(m: Match) -> list[int] | None:
    """Return the constant target, or None if there is none."""
    wanted, x, made = elements_of(m["target"]), dims_of(m["x"]) or (), dims_of(m.root.outputs[0])
    if wanted is None or made is None:
        return None
    means_zero: int = m.root.attributes.get_int("allowzero", 0)
    if 0 in wanted and means_zero:
        return None
    target = [_said(*each) for each in zip(wanted, made, (*x, *(None,) * len(made)), strict=False)]
    was_open = any(each == -1 and said == -1 for each, said in zip(wanted, target, strict=True))
    if target.count(-1) > 1 or (-1 in target and not was_open and 0 in target):
        return None
    return target


def _said(wanted: Number, made: Number, own: Number | None) -> int:
    """Return what says one dim: itself, 0 for that of x at this place, or -1."""
    if isinstance(wanted, int) and wanted >= 0:
        return wanted
    if isinstance(made, int) and made > 0:
        return made
    return 0 if made == own else -1


RULE = Rule("fold_reshape_target", op("Reshape", var("x"), var("target")), replace, guard)
