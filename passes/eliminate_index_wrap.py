"""Let Gather itself count negative indices from the end.

    Gather(table: [n, k], Where(i < 0, i + n, i))   ⇒   Gather(table, i)

So Keras exports its Embedding. Gather takes indices from -n to n - 1. What lies below -n is no index; the two
together wrapped it twice, and now onnxruntime refuses it.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims

_SIGNED = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_KEEPS_SIGN = frozenset({*_SIGNED, ir.DataType.FLOAT, ir.DataType.DOUBLE})
_NEGATIVE_INDICES = 11


def guard(m: Match) -> str | None:
    """Keep out of other numbers than 0 and n."""
    if m.opset < _NEGATIVE_INDICES:
        return "Gather counts from the end since opset 11"
    dims, axis = known_dims(m["table"]), m.root.attributes.get_int("axis", 0)
    n = dims[axis] if dims else None
    sizes, zeros = m.array("n"), m.array("zero")
    if n is None or sizes.size != 1 or zeros.size != 1 or sizes.item() != n or zeros.item() != 0:
        return "other numbers than 0 and the size of the axis"
    indices = rank(m["i"])
    if indices is None or max(sizes.ndim, zeros.ndim) > indices:
        return "the numbers may change the shape of the indices"
    return None if m["i"].dtype in _SIGNED and _same_sign(m) else "the comparison may see other signs"


def _same_sign(m: Match) -> bool:
    """Whether what is compared has the sign of the index: a Cast to int32 would cut an int64."""
    cast = m.captures.nodes.get("cast")
    target = m["i"].dtype if cast is None else cast.outputs[0].dtype
    return target in _KEEPS_SIGN and (m["i"].dtype, target) != (ir.DataType.INT64, ir.DataType.INT32)


def replace(m: Match, new: Builder) -> ir.Value:
    """Gather at the indices as they are."""
    return new.op("Gather", m["table"], m["i"], attributes=m.root.attributes)


_I = var("i")

RULE = Rule(
    "eliminate_index_wrap",
    op(
        "Gather",
        var("table"),
        op(
            "Where",
            op("Less", any_of(_I, op("Cast", _I, name="cast", shared=True)), const("zero"), shared=True),
            op("Add", _I, const("n"), shared=True),
            _I,
            shared=True,
        ),
    ),
    replace,
    guard,
)
