"""Drop a Slice that takes all of every axis.

x ─ Slice(starts=[0], ends=[INT64_MAX], axes=[2]) ─ op   ⇒   x ─ op

An end from INT32_MAX on means "up to the end", as exporters write it.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims

_UNBOUNDED = 2**31 - 1


def guard(m: Match) -> str | None:
    """Keep out unless each axis is taken from its start to its end, one by one."""
    starts, ends = _ints(m, "starts"), _ints(m, "ends")
    if starts is None or ends is None:
        return "the bounds are unknown"
    axes = _ints(m, "axes") or range(len(starts))
    steps = _ints(m, "steps") or [1] * len(starts)
    whole = all(
        step == 1 and _takes_all(m["x"], axis, start, end)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    )
    return None if whole else "it takes a part"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


def _ints(m: Match, name: str) -> list[int] | None:
    """Return one list of bounds: an input, or before opset 10 an attribute; None if it is absent."""
    if m.get(name) is not None:
        values: list[int] = m.array(name).tolist()
        return values
    attribute = m.root.attributes.get_ints(name)
    return None if attribute is None else list(attribute)


def _takes_all(x: ir.Value, axis: int, start: int, end: int) -> bool:
    if start == 0 and end >= _UNBOUNDED:
        return True
    dims = known_dims(x)
    size = None if dims is None else dims[axis]
    return size is not None and end >= size and (start == 0 or start <= -size)


RULE = Rule(
    "eliminate_noop_slice",
    any_of(
        op("Slice", var("x"), const("starts"), const("ends"), maybe(const("axes")), maybe(const("steps"))),
        op("Slice", var("x")),
    ),
    replace,
    guard,
)
