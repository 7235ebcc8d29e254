"""Drop an operator that undoes or repeats the one before it.

x ─ Neg ─ Neg ─ op     ⇒   x ─ op               also Not, BitwiseNot
x ─ Relu ─ Relu ─ op   ⇒   x ─ Relu ─ op        also Abs, Sign, Ceil, Floor, Round

Others may use the first of the two.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, op, var
from fuseonnx.core.rule import Match, Rule

_UNDONE = ("Neg", "Not", "BitwiseNot")
_KEPT = ("Relu", "Abs", "Sign", "Ceil", "Floor", "Round")


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x, or what the first operator made of it."""
    return m["x"] if m.root.op_type in _UNDONE else m.node("first").outputs[0]


RULE = Rule(
    "eliminate_repeated_op",
    any_of(*(op(type_, op(type_, var("x"), name="first", shared=True)) for type_ in (*_UNDONE, *_KEPT))),
    replace,
)
