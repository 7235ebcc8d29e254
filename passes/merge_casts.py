"""Cast once instead of twice.

x: float16 ─ Cast(float) ─ Cast(double) ─ op   ⇒   x ─ Cast(double) ─ op

The type in between must hold every value of x exactly, or all three must be integers of which the last is not
the widest: those wrap around alike. float ─ Cast(float16) ─ Cast(float) rounds, and stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import others_use

_T = ir.DataType
_BITS = {
    _T.INT8: 7,
    _T.INT16: 15,
    _T.INT32: 31,
    _T.INT64: 63,
    _T.UINT8: 8,
    _T.UINT16: 16,
    _T.UINT32: 32,
    _T.UINT64: 64,
    _T.BOOL: 1,
}
"""Bits of an integer's magnitude."""
_SIGNED = {_T.INT8, _T.INT16, _T.INT32, _T.INT64}
_DIGITS = {_T.FLOAT16: 11, _T.BFLOAT16: 8, _T.FLOAT: 24, _T.DOUBLE: 53}
"""Bits of a float's significand; IEEE 754-2008, table 3.5."""
_WIDER = {
    _T.FLOAT16: {_T.FLOAT, _T.DOUBLE},
    _T.BFLOAT16: {_T.FLOAT, _T.DOUBLE},
    _T.FLOAT: {_T.DOUBLE},
    _T.DOUBLE: set[ir.DataType](),
}


def guard(m: Match) -> str | None:
    """Keep out unless the detour changes no value, and where nothing would be saved."""
    source = m["x"].dtype
    between, target = (_target(node) for node in (m.node("first"), m.root))
    if source is None or between is None or target is None:
        return "the type is unknown"
    if not (_is_exact(source, between, target) or _wraps(source, between, target)):
        return "the first Cast may change values"
    return "the result of Cast has other users" if source != target and others_use(m, "first") else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Cast once."""
    return new.op("Cast", m["x"], attributes=m.root.attributes)


def _target(node: ir.Node) -> ir.DataType | None:
    to = node.attributes.get("to")
    return None if to is None or to.is_ref() else ir.DataType(to.as_int())


def _is_exact(source: ir.DataType, between: ir.DataType, target: ir.DataType) -> bool:
    """Whether the type in between holds all values, and the last cast reads them alike from either.

    A float beyond the range of an integer has no defined result, and may give another one.
    """
    if target not in {*_BITS, *_DIGITS} or not _holds(between, source):
        return False
    is_float = source in _DIGITS or between in _DIGITS
    return not is_float or target in _DIGITS or target is _T.BOOL or _holds(target, source)


def _holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether `wide` has every value of `narrow`."""
    if wide == narrow:
        return True
    if narrow in _DIGITS:
        return wide in _WIDER[narrow]
    if narrow not in _BITS:
        return False
    if wide in _DIGITS:
        return _BITS[narrow] <= _DIGITS[wide]
    enough = _BITS.get(wide, 0) >= _BITS[narrow]
    return enough and wide is not _T.BOOL and (narrow not in _SIGNED or wide in _SIGNED)


def _wraps(source: ir.DataType, between: ir.DataType, target: ir.DataType) -> bool:
    """Whether all are integers, of which the last is no wider than the one in between."""
    whole = all(each in _BITS and each is not _T.BOOL for each in (source, between, target))
    return whole and target.bitwidth <= between.bitwidth


RULE = Rule("merge_casts", op("Cast", op("Cast", var("x"), name="first", shared=True)), replace, guard)
