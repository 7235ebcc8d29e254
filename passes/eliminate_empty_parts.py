"""Join without the parts that are empty.

Concat(a: [n, 1, 96], b: [n, 0, 96], c, axis=1)   ⇒   Concat(a, c, axis=1)

So a vision transformer joins no register tokens, and a decoder a cache that holds nothing yet. One part is
left where all of them are empty.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims


def guard(m: Match) -> str | None:
    """Keep out unless a part is known to be empty."""
    return None if len(_full(m)) < len(m.root.inputs) else ""


def replace(m: Match, new: Builder) -> ir.Value:
    """Join what may not be empty."""
    return new.op("Concat", *_full(m), attributes=m.root.attributes)


def _full(m: Match) -> list[ir.Value | None]:
    axis = m.root.attributes.get_int("axis", 1)
    full = [part for part in m.root.inputs if part is not None and not _is_empty(part, axis)]
    return [*full] or [m.root.inputs[0]]


def _is_empty(part: ir.Value, axis: int) -> bool:
    dims = known_dims(part)
    return dims is not None and -len(dims) <= axis < len(dims) and dims[axis] == 0


RULE = Rule("eliminate_empty_parts", op("Concat", each=Var("")), replace, guard)
