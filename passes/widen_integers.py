"""Compute in a wider type what has no CUDA kernel for a narrow integer type.

    Clip(x: int32, …)   ⇒   Cast(Clip(Cast(x, int64), …), int32)
    Pad(x: int32, …)    ⇒   Cast(Pad(Cast(x, double), …), int32)

for operators that choose and compare numbers but compute no new ones, and types that hold every number of the
narrow one: the answers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import cast

_BOOL, _INT8, _UINT8 = ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT8
_INT32, _INT64 = ir.DataType.INT32, ir.DataType.INT64
_FLOAT, _DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE


class _Wide(NamedTuple):
    """What an operator is computed in instead.

    Attributes:
        types: narrow type to a type that has a CUDA kernel.
        operands: positions of the inputs of that type, None for all.
        casts_back: whether the output is of that type, too.
    """

    types: Mapping[ir.DataType, ir.DataType]
    operands: tuple[int, ...] | None = (0,)
    casts_back: bool = True


_BYTES_AS_INT32 = {_INT8: _INT32, _UINT8: _INT32}
_BYTES_AS_FLOAT = {_INT8: _FLOAT, _UINT8: _FLOAT}
_COMPARED = _Wide(_BYTES_AS_INT32, None, casts_back=False)
_WIDE = {
    "Clip": _Wide({_INT32: _INT64}, None),
    "DepthToSpace": _Wide(_BYTES_AS_FLOAT),
    "Equal": _COMPARED,
    "GatherND": _Wide({_INT32: _INT64} | _BYTES_AS_FLOAT),
    "Greater": _COMPARED,
    "GreaterOrEqual": _COMPARED,
    "Less": _COMPARED,
    "LessOrEqual": _COMPARED,
    "Max": _Wide(_BYTES_AS_INT32, None),
    "Min": _Wide(_BYTES_AS_INT32, None),
    "Pad": _Wide({_INT32: _DOUBLE} | _BYTES_AS_FLOAT, (0, 2)),
    "Relu": _Wide({_INT32: _DOUBLE, _INT8: _FLOAT}),
    "SpaceToDepth": _Wide(_BYTES_AS_FLOAT),
    "Tile": _Wide({_BOOL: _INT32} | _BYTES_AS_INT32),
    "Where": _Wide({_INT8: _INT32}, (1, 2)),
}


def guard(m: Match) -> str | None:
    """Keep out of types that have a CUDA kernel, or none that is wide enough."""
    return None if _dtype(m) in _WIDE[m.root.op_type].types else ""


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the same operator between casts."""
    wide, dtype = _WIDE[m.root.op_type], _dtype(m)
    inputs = [
        cast(new, value, wide.types[dtype])
        if value is not None and (wide.operands is None or index in wide.operands)
        else value
        for index, value in enumerate(m.root.inputs)
    ]
    result = new.op(m.root.op_type, *inputs, attributes=m.root.attributes)
    return new.op("Cast", result, attributes={"to": int(dtype)}) if wide.casts_back else result


def _dtype(m: Match) -> ir.DataType:
    """Return the type of the numbers that go in, UNDEFINED if it is unknown."""
    value = m.root.inputs[(_WIDE[m.root.op_type].operands or (0,))[0]]
    return (value.dtype if value is not None else None) or ir.DataType.UNDEFINED


RULE = Rule("widen_integers", op(tuple(_WIDE), each=var("x")), replace, guard)
